import Logging
import NIOCore

/// The keys of each section, as they are written.

struct LogEntry: Decodable {
  var level: Logger.Level?
  var format: LogSettings.Format?
}

struct AdminEntry: Decodable {
  var listen: String
  var token: Secret?
}

struct LimitsEntry: Decodable {
  var memory: MemorySize?
  var buffer: BufferSize?
  var sessions: SessionCount?
  var connectTimeout: Timeout?
  var handshakeTimeout: Timeout?
  var idleTimeout: Timeout?
  var drainTimeout: Timeout?
}

struct ResolverEntry: Decodable {
  var cache: ConfigDuration?
  var cacheFailures: ConfigDuration?
}

/// The keys that every frontend has; the rest is its type's and its listener's.
struct FrontendEntry: Decodable {
  var name: EntryName
  var type: String
  var listen: ListenAddress
  var transport: String?
  var users: [UserEntry]?
  var open: Bool?
  var allowLocalTargets: Bool?
  var buffer: BufferSize?
  var handshakeTimeout: Timeout?
  var idleTimeout: Timeout?

  static let keys: Set = [
    "name", "type", "listen", "transport", "users", "open", "allow_local_targets", "buffer",
    "handshake_timeout",
    "idle_timeout",
  ]
}

struct UserEntry: Decodable {
  var name: UserName
  var password: Secret
}

/// The keys that every transport has; the rest is its type's.
struct TransportEntry: Decodable {
  var name: EntryName
  var type: String
  var user: UserName?
  var password: Secret?
  var buffer: BufferSize?
  var connectTimeout: Timeout?

  static let keys: Set = ["name", "type", "user", "password", "buffer", "connect_timeout"]
}

/// The name of a frontend or transport, safe in metric labels and URLs.
struct EntryName: ConfigScalar {
  var text: String

  static var configForm: String { "a name of letters, digits, '_', '.' and '-'" }
  static var configPlaceholder: EntryName { EntryName(text: "placeholder") }

  init(text: String) {
    self.text = text
  }

  init?(configText: String) {
    let allowed = configText.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "0")...UInt8(ascii: "9"): true
      case UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"): true
      default: false
      }
    }
    guard allowed, !configText.isEmpty else { return nil }
    text = configText
  }
}

/// The name that a user gives with a password; Basic authentication ends it at the first colon
/// (RFC 7617 §2).
struct UserName: ConfigScalar {
  var text: String

  static var configForm: String { "a name without ':' and control characters" }
  static var configPlaceholder: UserName { UserName(text: "placeholder") }

  init(text: String) {
    self.text = text
  }

  init?(configText: String) {
    let isUsable = configText.unicodeScalars.allSatisfy {
      $0 != ":" && $0.properties.generalCategory != .control
    }
    guard isUsable, !configText.isEmpty else { return nil }
    text = configText
  }
}

/// How many bytes may wait in a stream, within what works at all and what a machine can hold.
struct BufferSize: ConfigScalar {
  var bytes: Int

  static var configForm: String { "a size from 8KiB to 1GiB" }
  static var configPlaceholder: BufferSize { BufferSize(bytes: 1 << 20) }

  init(bytes: Int) {
    self.bytes = bytes
  }

  init?(configText: String) {
    guard let size = ByteSize(configText: configText), (8 << 10...1 << 30).contains(size.bytes) else {
      return nil
    }
    bytes = size.bytes
  }
}

/// How many bytes may wait in all streams: room for the least of some hundred of them.
struct MemorySize: ConfigScalar {
  var bytes: Int

  static var configForm: String { "a size from 16MiB" }
  static var configPlaceholder: MemorySize { MemorySize(bytes: 16 << 20) }

  init(bytes: Int) {
    self.bytes = bytes
  }

  init?(configText: String) {
    guard let size = ByteSize(configText: configText), size.bytes >= 16 << 20 else { return nil }
    bytes = size.bytes
  }
}

/// A duration after which something is given up; never none at all.
struct Timeout: ConfigScalar {
  var amount: TimeAmount

  static var configForm: String { "\(ConfigDuration.configForm), above 0" }
  static var configPlaceholder: Timeout { Timeout(amount: .seconds(1)) }

  init(amount: TimeAmount) {
    self.amount = amount
  }

  init?(configText: String) {
    guard let duration = ConfigDuration(configText: configText), duration.amount > .zero else { return nil }
    amount = duration.amount
  }
}

/// How many sessions there may be at once.
struct SessionCount: ConfigScalar {
  var count: Int

  static var configForm: String { "an integer from 1" }
  static var configPlaceholder: SessionCount { SessionCount(count: 1) }

  init(count: Int) {
    self.count = count
  }

  init?(configText: String) {
    guard let count = Int(configText), count > 0 else { return nil }
    self.count = count
  }
}
