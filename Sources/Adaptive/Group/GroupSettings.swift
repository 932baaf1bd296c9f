import MagicalaneCore
import NIOCore

/// What every group of transports has, however it chooses.
struct GroupSettings: Sendable {
  /// How long a member is waited for before the next one starts beside it, where it is not known to answer.
  var headStart = TimeAmount.milliseconds(300)
  /// A query without an answer for so long is a failure of the member.
  var stall = TimeAmount.seconds(3)
  /// Bytes per minute for measuring while no session runs.
  var idleProbe = 8 << 10
  /// Bytes per minute for measuring while one does.
  var busyProbe = 160 << 10
  /// Most bytes of a client that are kept until the target sends its first.
  var replay = 64 << 10
  /// Whether the time to open a stream is measured again and again.
  var measuresOpening = false
}

/// The keys that every group has in its config entry.
struct GroupOptions: Decodable, Sendable {
  var headStart: ConfigDuration?
  var stall: ConfigDuration?
  var probe: ProbeOptions?
  var replay: ByteSize?
}

/// `probe:`
struct ProbeOptions: Decodable, Sendable {
  var idle: ByteSize?
  var busy: ByteSize?
}

extension GroupSettings {
  /// - Throws: `PluginError` at the key that is out of its bounds.
  init(_ options: GroupOptions) throws(PluginError) {
    if let key = options.headStart {
      headStart = try key.within(.milliseconds(1), .seconds(60), at: "head_start")
    }
    if let key = options.stall { stall = try key.within(.milliseconds(100), .minutes(10), at: "stall") }
    if let key = options.probe?.idle { idleProbe = try key.within(1 << 20, at: ["probe", "idle"]) }
    if let key = options.probe?.busy { busyProbe = try key.within(16 << 20, at: ["probe", "busy"]) }
    if let key = options.replay { replay = try key.within(16 << 20, at: ["replay"]) }
  }
}

extension ConfigDuration {
  fileprivate func within(
    _ least: TimeAmount,
    _ most: TimeAmount,
    at key: String
  ) throws(PluginError) -> TimeAmount {
    guard (least...most).contains(amount) else {
      let bounds = "\(least.nanoseconds / 1_000_000)ms to \(most.nanoseconds / 1_000_000_000)s"
      throw PluginError("must be from \(bounds)", at: [key])
    }
    return amount
  }
}

extension ByteSize {
  fileprivate func within(_ most: Int, at path: [String]) throws(PluginError) -> Int {
    guard bytes <= most else {
      throw PluginError("must be at most \(most >> 20)MiB, not \(bytes) bytes", at: path)
    }
    return bytes
  }
}
