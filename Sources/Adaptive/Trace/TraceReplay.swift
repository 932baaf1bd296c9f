import Foundation
import MagicalaneCore

/// One run of a trace, chosen for again: what a policy decides for its samples.
public struct TraceReplay: Sendable {
  /// What began the run.
  public let header: TraceHeader
  /// Those that it was replayed with.
  public let settings: AdaptiveSettings
  /// In their order.
  public private(set) var decisions: [Decision] = []
  /// Seconds that each member was the chosen one, in the order of the header's members.
  public private(set) var secondsChosen: [Double]
  /// Changes of the chosen member.
  public private(set) var switches = 0
  /// Those of them that a failure caused.
  public private(set) var failureSwitches = 0
  /// How many samples there were.
  public private(set) var samples = 0
  /// Seconds since 1970 of the first sample and the last.
  public private(set) var span: ClosedRange<Double>?

  private var policy: AdaptivePolicy

  /// - Parameter settings: in place of those of the header.
  /// - Throws: at `members` where they are not one of each kind.
  public init(_ header: TraceHeader, settings: AdaptiveSettings? = nil) throws(PluginError) {
    self.header = header
    self.settings = settings ?? header.settings
    policy = try AdaptivePolicy(settings: self.settings, members: header.members)
    secondsChosen = header.members.map { _ in 0 }
  }

  /// Takes the next sample of the run.
  ///
  /// - Returns: nil where nothing is decided anew.
  @discardableResult
  public mutating func take(_ sample: PathSample) -> Decision? {
    samples += 1
    if let span, let chosen = policy.chosen { secondsChosen[chosen] += max(sample.time - span.upperBound, 0) }
    span = span.map { $0.lowerBound...max($0.upperBound, sample.time) } ?? sample.time...sample.time
    let before = policy.chosen
    guard let decision = policy.take(sample) else { return nil }
    if let before, before != policy.chosen {
      switches += 1
      if policy.conditions[before] == .down { failureSwitches += 1 }
    }
    decisions.append(decision)
    return decision
  }
}
