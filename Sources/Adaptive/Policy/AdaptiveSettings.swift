import MagicalaneCore
import NIOCore

/// The thresholds by which an adaptive transport chooses, by the names of their config keys.
///
/// All defaults stand here. `AdaptiveSettings.Key` reads and writes them as text.
public struct AdaptiveSettings: Sendable, Equatable {
  /// A member that loses so much, or more, loses much.
  public var enterLoss = Ratio(0.05)
  /// A member that loses much must lose so little, or less, for `hold` to count as losing little again.
  public var leaveLoss = Ratio(0.02)
  /// See `leaveLoss`.
  public var hold = TimeAmount.seconds(60)
  /// A loss is counted over the packets of so long.
  public var window = TimeAmount.seconds(10)
  /// Where `window` holds fewer packets than this, older ones are counted too.
  public var minPackets = 50
  /// No packet older than this is counted, however few there are.
  public var reach = TimeAmount.seconds(120)
  /// From one switch to the next, failures apart.
  public var dwell = TimeAmount.seconds(30)
  /// Most switches in any hour, failures apart.
  public var switchesPerHour = 6
  /// How long the preferred member is ahead of the other one where both are raced.
  public var headStart = TimeAmount.milliseconds(300)
  /// A control stream that is silent for so long, with a query out, is a failure of its member.
  public var stall = TimeAmount.seconds(3)

  /// The defaults.
  public init() {}

  /// Checks that the values make sense, each by itself and together.
  ///
  /// - Throws: at the key that is at fault.
  public func check() throws(PluginError) {
    for key in Key.allCases {
      if let range = key.range, !range.contains(key.number(in: self)) {
        throw PluginError("must be \(key.rangeText), not \(key.text(in: self))", at: [key.rawValue])
      }
    }
    if leaveLoss.value > enterLoss.value {
      throw PluginError(
        "must not be above enter_loss, which is \(enterLoss); it is \(leaveLoss)",
        at: [Key.leaveLoss.rawValue]
      )
    }
    if reach < window {
      throw PluginError(
        "must not be below window, which is \(Key.window.text(in: self)); it is \(Key.reach.text(in: self))",
        at: [Key.reach.rawValue]
      )
    }
  }
}

extension AdaptiveSettings: Codable {
  /// Reads the keys that are there, takes the defaults for the rest, and checks them.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    for key in Key.allCases { try key.read(from: container, into: &self) }
    try check()
  }

  /// Writes every key, as the config has them.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    for key in Key.allCases { try key.write(self, to: &container) }
  }
}

extension AdaptiveSettings {
  /// These settings with some changed, each given by its key and its text as in the config; checked when all are set.
  ///
  /// - Throws: at the key that is at fault; for an unknown one, at none.
  public func changed(by assignments: [(key: String, text: String)]) throws(PluginError) -> AdaptiveSettings {
    var result = self
    for (name, text) in assignments {
      guard let key = Key(rawValue: name) else {
        let known = Key.allCases.map(\.rawValue)
        let advice =
          name.nearest(among: known).map { "did you mean '\($0)'?" }
          ?? "known keys: \(known.joined(separator: ", "))"
        throw PluginError("unknown key '\(name)'; \(advice)")
      }
      try key.set(in: &result, to: text)
    }
    try result.check()
    return result
  }

  /// What decisions show of them: durations in seconds, ratios from 0 to 1. Only what a choice rests on.
  var thresholds: [String: Double] {
    let keys = Key.allCases.filter { $0 != .headStart && $0 != .stall }
    return Dictionary(uniqueKeysWithValues: keys.map { ($0.rawValue, $0.number(in: self)) })
  }
}
