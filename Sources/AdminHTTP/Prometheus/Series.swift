import CoreMetrics
import Synchronization

/// One line of `/metrics`, or for a histogram a few: what one family counts under one set of labels.
///
/// A series is the handler behind an instrument of swift-metrics. It may be used from any thread; recording
/// takes no lock and allocates nothing.
protocol Series: AnyObject, Sendable {
  var id: SeriesID { get }
  func write(to text: inout PrometheusText)
}

/// Names a series.
struct SeriesID: Hashable, Sendable {
  /// The name of its family.
  var family: String
  /// As they are written: sorted, escaped, without braces.
  var labels: String
}

/// What only goes up.
final class CounterSeries: Series, CounterHandler, FloatingPointCounterHandler {
  let id: SeriesID
  /// Whole numbers have a count of their own, for a large floating-point number swallows a one.
  private let whole = Atomic<Int64>(0)
  private let fraction = AtomicDouble()

  init(_ id: SeriesID) {
    self.id = id
  }

  /// - Parameter amount: one below zero is ignored, for a counter never goes down.
  func increment(by amount: Int64) {
    if amount > 0 { whole.wrappingAdd(amount, ordering: .relaxed) }
  }

  /// - Parameter amount: one that is below zero or not finite is ignored.
  func increment(by amount: Double) {
    if amount > 0 && amount.isFinite { fraction.add(amount) }
  }

  func reset() {
    whole.store(0, ordering: .relaxed)
    fraction.set(0)
  }

  func write(to text: inout PrometheusText) {
    let (whole, fraction) = (whole.load(ordering: .relaxed), fraction.value)
    if fraction == 0 {
      text.sample(id.family, id.labels, whole)
    } else {
      text.sample(id.family, id.labels, Double(whole) + fraction)
    }
  }
}

/// What goes up and down.
final class GaugeSeries: Series, MeterHandler, RecorderHandler {
  let id: SeriesID
  private let current = AtomicDouble()

  init(_ id: SeriesID) {
    self.id = id
  }

  func set(_ value: Int64) { current.set(Double(value)) }
  func set(_ value: Double) { current.set(value) }
  func increment(by amount: Double) { current.add(amount) }
  func decrement(by amount: Double) { current.add(-amount) }
  func record(_ value: Int64) { set(value) }
  func record(_ value: Double) { set(value) }

  func write(to text: inout PrometheusText) {
    text.sample(id.family, id.labels, current.value)
  }
}

/// How values are spread: how many there were up to each bound, and their sum.
final class HistogramSeries: Series, TimerHandler, RecorderHandler {
  /// A class, for an array cannot hold atomics themselves.
  private final class Bucket: Sendable {
    let count = Atomic<UInt64>(0)
  }

  let id: SeriesID
  private let bounds: [Double]
  /// One for each bound, with the values above the one before it, and one for those above all.
  private let buckets: [Bucket]
  private let sum = AtomicDouble()

  /// - Parameter bounds: ascending; a value on a bound belongs to it.
  init(_ id: SeriesID, bounds: [Double]) {
    self.id = id
    self.bounds = bounds
    buckets = (0...bounds.count).map { _ in Bucket() }
  }

  func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
  func record(_ value: Int64) { record(Double(value)) }

  /// - Parameter value: one that is not finite is ignored; it would spoil the sum for good.
  func record(_ value: Double) {
    guard value.isFinite else { return }
    buckets[index(of: value)].count.wrappingAdd(1, ordering: .relaxed)
    sum.add(value)
  }

  private func index(of value: Double) -> Int {
    var (low, high) = (0, bounds.count)
    while low < high {
      let middle = (low + high) / 2
      if bounds[middle] < value { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The count is that of the buckets just read, so that the two agree whatever is recorded meanwhile.
  func write(to text: inout PrometheusText) {
    var total: UInt64 = 0
    for (index, bucket) in buckets.enumerated() {
      total += bucket.count.load(ordering: .relaxed)
      let bound = index < bounds.count ? PrometheusText.number(bounds[index]) : "+Inf"
      text.sample(id.family + "_bucket", id.labels, bound: bound, total)
    }
    text.sample(id.family + "_sum", id.labels, sum.value)
    text.sample(id.family + "_count", id.labels, total)
  }
}
