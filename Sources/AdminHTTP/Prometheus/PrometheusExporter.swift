import CoreMetrics
import Logging
import MagicalaneCore
import NIOConcurrencyHelpers
import Synchronization

/// What swift-metrics counts into, and what `/metrics` shows: every instrument of the program in the
/// Prometheus text format.
///
/// A `Counter` becomes a counter (`…_total`), a `Gauge` or `Meter` a gauge, a `Timer` a histogram
/// (`…_seconds`), an aggregating `Recorder` a histogram. All names get the prefix `magicalane_`.
///
/// Instruments of the same label and dimensions share one series, which lives until the last of them is
/// destroyed. So a part of the program that replaces another goes on with its totals, provided that it makes
/// its instruments first.
///
/// Safe from any thread. A lock is taken when an instrument is made, destroyed or shown, never to record.
public final class PrometheusExporter: MetricsFactory {
  /// The media type of `text()`.
  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"
  /// Most series at once, unless a test says another number.
  public static let mostSeries = 10_000

  private let version: String
  private let seriesLimit: Int
  private let logger: Logger
  private let memory: MemoryBudget
  private let readProcess: @Sendable () -> ProcessMetrics
  private let registry = NIOLockedValueBox(SeriesRegistry())
  private let dropped = Atomic<Int>(0)

  /// - Parameters:
  ///   - version: of the program, for `magicalane_build_info`.
  ///   - logger: hears once about each name that two kinds want, and about too many series.
  ///   - seriesLimit: new series beyond this are recorded nowhere and counted as dropped.
  ///   - memory: shown with each text.
  ///   - process: called for each text.
  public init(
    version: String,
    logger: Logger,
    seriesLimit: Int = PrometheusExporter.mostSeries,
    memory: MemoryBudget = .process,
    process: @escaping @Sendable () -> ProcessMetrics = ProcessMetrics.current
  ) {
    self.version = version
    self.logger = logger
    self.seriesLimit = seriesLimit
    self.memory = memory
    readProcess = process
  }

  /// Everything that is known now; the same values always give the same text.
  public func text() -> String {
    let families = registry.withLockedValue { $0.snapshot } + ownFamilies
    var text = PrometheusText()
    for family in families.sorted(by: { $0.name < $1.name }) {
      text.family(family.name, family.kind, help: family.help)
      family.write(&text)
    }
    return text.text
  }

  private var ownFamilies: [FamilySnapshot] {
    let (version, process, dropped) = (version, readProcess(), dropped.load(ordering: .relaxed))
    let measured = ProcessMetrics.Family.allCases.compactMap { family -> FamilySnapshot? in
      guard let value = process.value(family) else { return nil }
      return FamilySnapshot(name: family.name, kind: family.kind, help: family.help) {
        $0.sample(family.name, "", value)
      }
    }
    let build = FamilySnapshot(MetricFamilies.buildInfo, .gauge) {
      $0.sample(MetricFamilies.buildInfo, PrometheusText.labels([("version", version)]), 1)
    }
    let lost = FamilySnapshot(MetricFamilies.droppedSeries, .counter) {
      $0.sample(MetricFamilies.droppedSeries, "", dropped)
    }
    let budget = [(MetricFamilies.memoryLimit, memory.limit), (MetricFamilies.memoryUsed, memory.used)]
    let bytes = budget.map { name, bytes in
      FamilySnapshot(name: name, kind: .gauge, help: MetricFamilies.help(name)) {
        $0.sample(name, "", Double(bytes))
      }
    }
    return measured + bytes + [build, lost]
  }

  /// - Parameter make: a new series where there is none of this name yet.
  /// - Returns: nil where there can be none.
  private func series<Kept: Series>(
    _ name: String,
    _ kind: PrometheusText.Kind,
    _ dimensions: [(String, String)],
    _ make: (SeriesID) -> Kept
  ) -> Kept? {
    let id = SeriesID(family: name, labels: PrometheusText.labels(dimensions))
    let result = registry.withLockedValue { $0.retain(id, kind, limit: seriesLimit) { make(id) } }
    switch result {
    case .kept(let series): return series as? Kept
    case .refused(let reason, let isNews):
      dropped.wrappingAdd(1, ordering: .relaxed)
      if isNews {
        logger.warning(
          "A metric is not recorded",
          metadata: ["metric": "\(name)", "reason": "\(reason)"]
        )
      }
      return nil
    }
  }

  private func release(_ handler: AnyObject) {
    guard let series = handler as? any Series else { return }
    registry.withLockedValue { $0.release(series) }
  }
}

// MARK: Called by swift-metrics

extension PrometheusExporter {
  /// A counter; its name ends in `_total`.
  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    counter(label, dimensions) ?? NOOPMetricsHandler.instance
  }

  /// A counter; its name ends in `_total`.
  public func makeFloatingPointCounter(
    label: String,
    dimensions: [(String, String)]
  ) -> any FloatingPointCounterHandler {
    counter(label, dimensions) ?? NOOPMetricsHandler.instance
  }

  /// A gauge.
  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    gauge(label, dimensions) ?? NOOPMetricsHandler.instance
  }

  /// A histogram where it aggregates, else a gauge.
  public func makeRecorder(
    label: String,
    dimensions: [(String, String)],
    aggregate: Bool
  ) -> any RecorderHandler {
    if aggregate { return histogram(PrometheusName.family(label), dimensions) ?? NOOPMetricsHandler.instance }
    return gauge(label, dimensions) ?? NOOPMetricsHandler.instance
  }

  /// A histogram of seconds; its name ends in `_seconds`.
  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    histogram(PrometheusName.family(label, suffix: "_seconds"), dimensions) ?? NOOPMetricsHandler.instance
  }

  private func counter(_ label: String, _ dimensions: [(String, String)]) -> CounterSeries? {
    series(PrometheusName.family(label, suffix: "_total"), .counter, dimensions, CounterSeries.init)
  }

  private func gauge(_ label: String, _ dimensions: [(String, String)]) -> GaugeSeries? {
    series(PrometheusName.family(label), .gauge, dimensions, GaugeSeries.init)
  }

  private func histogram(_ name: String, _ dimensions: [(String, String)]) -> HistogramSeries? {
    series(name, .histogram, dimensions) { HistogramSeries($0, bounds: MetricFamilies.buckets(name)) }
  }

  /// Takes one reference away.
  public func destroyCounter(_ handler: any CounterHandler) { release(handler) }
  /// Takes one reference away.
  public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { release(handler) }
  /// Takes one reference away.
  public func destroyMeter(_ handler: any MeterHandler) { release(handler) }
  /// Takes one reference away.
  public func destroyRecorder(_ handler: any RecorderHandler) { release(handler) }
  /// Takes one reference away.
  public func destroyTimer(_ handler: any TimerHandler) { release(handler) }
}
