import MagicalaneCore
import NIOCore

extension AdaptiveSettings {
  /// The keys as they are written in the config, and how each value is read, written and bounded.
  public enum Key: String, CodingKey, CaseIterable, Sendable {
    /// See the property of the same name, as for those below.
    case enterLoss = "enter_loss"
    case leaveLoss = "leave_loss"
    case hold
    case window
    case minPackets = "min_packets"
    case reach
    case dwell
    case switchesPerHour = "switches_per_hour"
    case headStart = "head_start"
    case stall
  }
}

extension AdaptiveSettings.Key {
  /// Where the value lives, by its kind.
  private enum Place {
    case ratio(WritableKeyPath<AdaptiveSettings, Ratio>)
    case duration(WritableKeyPath<AdaptiveSettings, TimeAmount>)
    case count(WritableKeyPath<AdaptiveSettings, Int>)
  }

  private var place: Place {
    switch self {
    case .enterLoss: .ratio(\.enterLoss)
    case .leaveLoss: .ratio(\.leaveLoss)
    case .hold: .duration(\.hold)
    case .window: .duration(\.window)
    case .minPackets: .count(\.minPackets)
    case .reach: .duration(\.reach)
    case .dwell: .duration(\.dwell)
    case .switchesPerHour: .count(\.switchesPerHour)
    case .headStart: .duration(\.headStart)
    case .stall: .duration(\.stall)
    }
  }

  /// Which values it takes, in seconds where it is a duration; nil where its type says all.
  var range: ClosedRange<Double>? {
    switch self {
    case .enterLoss: 0.001...1
    case .leaveLoss: nil
    case .hold, .dwell: 0...86400
    case .window: 1...600
    case .minPackets: 1...100_000
    case .reach: 1...3600
    case .switchesPerHour: 0...3600
    case .headStart: 0...60
    case .stall: 0.1...600
    }
  }

  /// The range in the words of the config.
  var rangeText: String {
    guard let range else { return "" }
    let bounds = [range.lowerBound, range.upperBound].map { bound in
      switch place {
      case .ratio: "\(Ratio(bound))"
      case .duration: TimeAmount.nanoseconds(Int64(bound * 1e9)).configText
      case .count: "\(Int(bound))"
      }
    }
    return "from \(bounds[0]) to \(bounds[1])"
  }

  /// A ratio from 0 to 1, a duration in seconds, or a count.
  func number(in settings: AdaptiveSettings) -> Double {
    switch place {
    case .ratio(let path): settings[keyPath: path].value
    case .duration(let path): Double(settings[keyPath: path].nanoseconds) / 1e9
    case .count(let path): Double(settings[keyPath: path])
    }
  }

  /// The value as the config has it: `10%`, `30s`, `50`.
  public func text(in settings: AdaptiveSettings) -> String {
    switch place {
    case .ratio(let path): "\(settings[keyPath: path])"
    case .duration(let path): settings[keyPath: path].configText
    case .count(let path): "\(settings[keyPath: path])"
    }
  }

  /// Reads a text as the config does; `AdaptiveSettings.check` is still to come.
  func set(in settings: inout AdaptiveSettings, to text: String) throws(PluginError) {
    switch place {
    case .ratio(let path):
      settings[keyPath: path] = try expected(Ratio.configForm, Ratio(configText: text), text)
    case .duration(let path):
      let duration = try expected(ConfigDuration.configForm, ConfigDuration(configText: text), text)
      settings[keyPath: path] = duration.amount
    case .count(let path):
      settings[keyPath: path] = try expected("an integer", Int(text), text)
    }
  }

  private func expected<T>(_ form: String, _ value: T?, _ text: String) throws(PluginError) -> T {
    guard let value else { throw PluginError("expected \(form), found '\(text)'", at: [rawValue]) }
    return value
  }

  func read(
    from container: KeyedDecodingContainer<AdaptiveSettings.Key>,
    into settings: inout AdaptiveSettings
  ) throws {
    switch place {
    case .ratio(let path):
      if let ratio = try container.decodeIfPresent(Ratio.self, forKey: self) {
        settings[keyPath: path] = ratio
      }
    case .duration(let path):
      if let duration = try container.decodeIfPresent(ConfigDuration.self, forKey: self) {
        settings[keyPath: path] = duration.amount
      }
    case .count(let path):
      if let count = try container.decodeIfPresent(Int.self, forKey: self) { settings[keyPath: path] = count }
    }
  }

  func write(
    _ settings: AdaptiveSettings,
    to container: inout KeyedEncodingContainer<AdaptiveSettings.Key>
  ) throws {
    switch place {
    case .count(let path): try container.encode(settings[keyPath: path], forKey: self)
    case .ratio, .duration: try container.encode(text(in: settings), forKey: self)
    }
  }
}

extension TimeAmount {
  /// `300ms`, `30s`, `5m`, `2h`: in the largest unit that it is whole in. Below a millisecond nothing is kept.
  var configText: String {
    let milliseconds = nanoseconds / 1_000_000
    let units: [(Int64, String)] = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
    // A minute and two stay in seconds, as people write them.
    for (size, unit) in units where milliseconds >= 3 * size || (unit == "s" && milliseconds >= size) {
      if milliseconds % size == 0 { return "\(milliseconds / size)\(unit)" }
    }
    return "\(milliseconds)ms"
  }
}
