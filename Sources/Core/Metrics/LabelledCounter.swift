import Metrics
import NIOConcurrencyHelpers

/// What a label of a metric may say: one of a few fixed words, never a text from outside.
package protocol MetricLabel: Hashable, Sendable {
  /// In snake case.
  var labelValue: String { get }
}

extension MetricLabel where Self: RawRepresentable, RawValue == String {
  /// The raw value.
  package var labelValue: String { rawValue }
}

/// Counters of one family that differ in one label, each made when it is first needed.
///
/// Safe from any thread. It takes a lock, so it is for what happens once per session or connection.
package final class LabelledCounter<Label: MetricLabel>: Sendable {
  private let family: String
  private let labelName: String
  private let dimensions: [(String, String)]
  private let factory: any MetricsFactory
  private let counters: NIOLockedValueBox<[Label: Counter]>

  /// - Parameters:
  ///   - shown: the labels to show from the start, with a count of zero.
  ///   - dimensions: what all the counters have.
  package init(
    _ family: String,
    label: String,
    showing shown: [Label] = [],
    dimensions: [(String, String)],
    factory: any MetricsFactory
  ) {
    self.family = family
    labelName = label
    self.dimensions = dimensions
    self.factory = factory
    counters = NIOLockedValueBox([:])
    for label in shown { _ = counter(label) }
  }

  deinit {
    for counter in counters.withLockedValue({ $0 }).values { counter.destroy() }
  }

  /// One more with this label.
  package func increment(_ label: Label) {
    counter(label).increment()
  }

  private func counter(_ label: Label) -> Counter {
    counters.withLockedValue { counters in
      if let known = counters[label] { return known }
      let all = dimensions + [(labelName, label.labelValue)]
      let counter = Counter(label: family, dimensions: all, factory: factory)
      counters[label] = counter
      return counter
    }
  }
}
