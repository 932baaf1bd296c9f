import MagicalaneCore
import NIOCore

/// A member as the policy sees it.
public struct AdaptiveMember: Sendable, Codable, Equatable {
  /// Its name in the config.
  public var name: String
  /// Its type in the config.
  public var type: String
  /// Whether a lost packet holds up its own stream alone, as with QUIC.
  public var bearsLoss: Bool

  /// A member from its parts.
  public init(name: String, type: String, bearsLoss: Bool) {
    self.name = name
    self.type = type
    self.bearsLoss = bearsLoss
  }
}

/// The settings in the units of the policy.
struct PolicySettings: Sendable {
  let enterLoss: Double
  let leaveLoss: Double
  let hold: Milliseconds
  let window: Milliseconds
  let minPackets: UInt64
  let reach: Milliseconds
  let dwell: Milliseconds
  let switchesPerHour: Int
  let thresholds: [String: Double]

  init(_ settings: AdaptiveSettings) {
    enterLoss = settings.enterLoss.value
    leaveLoss = settings.leaveLoss.value
    hold = settings.hold.milliseconds
    window = settings.window.milliseconds
    minPackets = UInt64(clamping: settings.minPackets)
    reach = settings.reach.milliseconds
    dwell = settings.dwell.milliseconds
    switchesPerHour = settings.switchesPerHour
    thresholds = settings.thresholds
  }
}

extension TimeAmount {
  fileprivate var milliseconds: Milliseconds { nanoseconds / 1_000_000 }
}
