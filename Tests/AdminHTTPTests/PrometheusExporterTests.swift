import CoreMetrics
import Dispatch
import Logging
import NIOConcurrencyHelpers
import Testing

@testable import MagicalaneAdminHTTP

@Suite struct PrometheusExporterTests {
  let log = RecordedLog()
  let exporter: PrometheusExporter

  init() {
    exporter = PrometheusExporter(version: "1.2.3", logger: log.logger, seriesLimit: 20) { ProcessMetrics() }
  }

  /// The lines about one family, help and type included.
  private func lines(_ family: String) -> [String] {
    exporter.text().split(separator: "\n").map(String.init).filter { $0.contains("magicalane_\(family)") }
  }

  private func samples(_ family: String) -> [String] {
    lines(family).filter { !$0.hasPrefix("#") }
  }

  // MARK: Kinds

  @Test func `a counter gets prefix, suffix, help and type`() {
    Counter(label: "sessions_started", dimensions: [("frontend", "a")], factory: exporter).increment(by: 3)
    #expect(
      lines("sessions_started") == [
        "# HELP magicalane_sessions_started_total Streams that a frontend accepted.",
        "# TYPE magicalane_sessions_started_total counter",
        "magicalane_sessions_started_total{frontend=\"a\"} 3",
      ]
    )
  }

  @Test func `a name that has prefix and suffix keeps them`() {
    Counter(label: "magicalane_bytes_total", factory: exporter).increment()
    #expect(samples("bytes_total") == ["magicalane_bytes_total 1"])
  }

  @Test func `a counter never goes down`() {
    let counter = Counter(label: "things", factory: exporter)
    counter.increment(by: 5)
    counter.increment(by: -2)
    let fraction = FloatingPointCounter(label: "things", factory: exporter)
    fraction.increment(by: 0.5)
    fraction.increment(by: -1.0)
    fraction.increment(by: Double.infinity)
    #expect(samples("things") == ["magicalane_things_total 5.5"])
    counter.reset()
    #expect(samples("things") == ["magicalane_things_total 0"])
  }

  @Test func `a counter counts ones beyond what a floating-point number tells apart`() {
    let counter = Counter(label: "things", factory: exporter)
    counter.increment(by: Int64(1) << 60)
    counter.increment()
    #expect(samples("things") == ["magicalane_things_total \((1 << 60) + 1)"])
  }

  @Test func `a meter and a gauge become a gauge`() {
    let meter = Meter(label: "level", factory: exporter)
    meter.set(10)
    meter.increment()
    meter.decrement(by: 2.5)
    Gauge(label: "depth", factory: exporter).record(0.25)
    #expect(lines("level").last == "magicalane_level 8.5")
    #expect(lines("depth").contains("# TYPE magicalane_depth gauge"))
    #expect(lines("depth").last == "magicalane_depth 0.25")
  }

  @Test func `a timer becomes a histogram of seconds`() {
    let timer = Timer(label: "open_duration", factory: exporter)
    timer.recordMilliseconds(20)
    timer.recordSeconds(100)
    let found = lines("open_duration_seconds")
    #expect(found.contains("# TYPE magicalane_open_duration_seconds histogram"))
    #expect(found.contains("magicalane_open_duration_seconds_bucket{le=\"0.01\"} 0"))
    #expect(found.contains("magicalane_open_duration_seconds_bucket{le=\"0.025\"} 1"))
    #expect(found.contains("magicalane_open_duration_seconds_bucket{le=\"30\"} 1"))
    #expect(
      found.suffix(3).map(\.self) == [
        "magicalane_open_duration_seconds_bucket{le=\"+Inf\"} 2",
        "magicalane_open_duration_seconds_sum 100.02",
        "magicalane_open_duration_seconds_count 2",
      ]
    )
  }

  @Test func `a value on a bound belongs to its bucket`() {
    let recorder = Recorder(label: "size", factory: exporter)
    for value in [1.0, 1.5, 3.0, 1_000_000, 1_000_001, -7] { recorder.record(value) }
    let counts = samples("size_bucket").compactMap { $0.split(separator: " ").last }
    #expect(counts == ["2", "4", "4", "4", "4", "4", "4", "4", "4", "4", "5", "6"])
  }

  @Test func `a value that is no number is not recorded`() {
    let recorder = Recorder(label: "size", factory: exporter)
    recorder.record(Double.nan)
    recorder.record(2)
    #expect(samples("size_sum") == ["magicalane_size_sum 2"])
    #expect(samples("size_count") == ["magicalane_size_count 1"])
  }

  @Test(arguments: [
    "magicalane_open_duration_seconds", "magicalane_session_duration_seconds", "magicalane_quic_rtt_seconds",
    "other_seconds", "other_bytes", "other",
  ])
  func `bounds ascend`(family: String) {
    let bounds = MetricFamilies.buckets(family)
    #expect(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 })
    #expect(bounds.count > 5)
  }

  // MARK: Sharing

  @Test func `increments from many threads add up`() {
    let counter = Counter(label: "things", factory: exporter)
    let meter = Meter(label: "level", factory: exporter)
    let timer = Timer(label: "time", factory: exporter)
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      for _ in 0..<5000 {
        counter.increment()
        meter.increment(by: 2.0)
        meter.decrement()
        timer.recordSeconds(1)
      }
    }
    #expect(samples("things") == ["magicalane_things_total 40000"])
    #expect(samples("level") == ["magicalane_level 40000"])
    #expect(samples("time_seconds_sum") == ["magicalane_time_seconds_sum 40000"])
    #expect(samples("time_seconds_count") == ["magicalane_time_seconds_count 40000"])
  }

  @Test func `instruments of the same label and dimensions share a series, in any order of the dimensions`() {
    Counter(label: "t", dimensions: [("a", "1"), ("b", "2")], factory: exporter).increment()
    Counter(label: "t", dimensions: [("b", "2"), ("a", "1")], factory: exporter).increment()
    #expect(samples("t_total") == ["magicalane_t_total{a=\"1\",b=\"2\"} 2"])
  }

  @Test func `a series lives until its last instrument is destroyed`() {
    let old = Counter(label: "things", factory: exporter)
    old.increment(by: 7)
    let new = Counter(label: "things", factory: exporter)
    old.destroy()
    new.increment()
    #expect(samples("things") == ["magicalane_things_total 8"])
    new.destroy()
    #expect(lines("things").isEmpty)
    Counter(label: "things", factory: exporter).increment()
    #expect(samples("things") == ["magicalane_things_total 1"])
  }

  @Test func `a late destroy of a series that is gone does not touch its successor`() {
    let old = Counter(label: "things", factory: exporter)
    old.destroy()
    let new = Counter(label: "things", factory: exporter)
    new.increment()
    old.destroy()
    #expect(samples("things") == ["magicalane_things_total 1"])
  }

  @Test func `series come and go on many threads without a loss`() {
    let kept = Counter(label: "things", factory: exporter)
    let exporter = exporter
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      for _ in 0..<500 {
        let counter = Counter(label: "things", factory: exporter)
        counter.increment()
        counter.destroy()
      }
    }
    #expect(samples("things") == ["magicalane_things_total 4000"])
    kept.destroy()
    #expect(lines("things").isEmpty)
  }

  // MARK: Limits

  @Test func `series beyond the limit are dropped, counted and reported once`() {
    let counters = (0..<30).map { index in
      Counter(label: "t", dimensions: [("i", "\(index)")], factory: exporter)
    }
    counters.forEach { $0.increment() }
    #expect(samples("t_total").count == 20)
    #expect(samples("metrics_dropped_series_total") == ["magicalane_metrics_dropped_series_total 10"])
    #expect(log.warnings == 1)
    counters[0].destroy()
    Counter(label: "t", dimensions: [("i", "late")], factory: exporter).increment()
    #expect(samples("t_total").contains("magicalane_t_total{i=\"late\"} 1"))
  }

  @Test func `a name belongs to the kind that had it first`() {
    Gauge(label: "x_total", factory: exporter).record(1)
    let counter = Counter(label: "x", factory: exporter)
    counter.increment(by: 5)
    Counter(label: "x", factory: exporter).increment()
    #expect(
      lines("x_total").dropFirst().map(\.self) == [
        "# TYPE magicalane_x_total gauge", "magicalane_x_total 1",
      ]
    )
    #expect(samples("metrics_dropped_series_total") == ["magicalane_metrics_dropped_series_total 2"])
    #expect(log.warnings == 1)
  }

  @Test func `no family writes lines of another one's name`() {
    Recorder(label: "size", factory: exporter).record(1)
    Gauge(label: "size_count", factory: exporter).record(77)
    Gauge(label: "depth_sum", factory: exporter).record(5)
    Recorder(label: "depth", factory: exporter).record(1)
    Gauge(label: "build_info", factory: exporter).record(5)
    #expect(samples("size_count") == ["magicalane_size_count 1"])
    #expect(samples("depth") == ["magicalane_depth_sum 5"])
    #expect(samples("build_info") == ["magicalane_build_info{version=\"1.2.3\"} 1"])
    #expect(log.warnings == 3)
  }

  @Test func `a name is free again when its family is gone`() {
    let recorder = Recorder(label: "size", factory: exporter)
    recorder.destroy()
    Gauge(label: "size_count", factory: exporter).record(3)
    #expect(samples("size_count") == ["magicalane_size_count 3"])
    #expect(log.warnings == 0)
  }

  // MARK: The text

  @Test func `families and series are sorted and each family stands together`() {
    for name in ["b", "a", "c"] {
      for label in ["2", "1"] { Gauge(label: name, dimensions: [("l", label)], factory: exporter).record(1) }
    }
    let text = exporter.text()
    let types = text.split(separator: "\n").filter { $0.hasPrefix("# TYPE") }
    #expect(types == types.sorted())
    #expect(Set(types).count == types.count)
    #expect(samples("a") == ["magicalane_a{l=\"1\"} 1", "magicalane_a{l=\"2\"} 1"])
    #expect(exporter.text() == text)
    #expect(text.hasSuffix("\n"))
  }

  @Test func `process values that are known are shown`() {
    let exporter = PrometheusExporter(version: "1", logger: log.logger) {
      var process = ProcessMetrics()
      process.openFiles = 12
      process.cpuTime = 1.5
      return process
    }
    let text = exporter.text()
    #expect(text.contains("# TYPE magicalane_process_open_fds gauge\nmagicalane_process_open_fds 12\n"))
    #expect(text.contains("# TYPE magicalane_process_cpu_seconds_total counter\n"))
    #expect(text.contains("\nmagicalane_process_cpu_seconds_total 1.5\n"))
    #expect(!text.contains("process_threads"))
  }
}

/// A logger that counts its warnings.
final class RecordedLog: Sendable {
  private let count = NIOLockedValueBox(0)

  var warnings: Int { count.withLockedValue { $0 } }

  var logger: Logger {
    Logger(label: "test") { _ in Handler(log: self) }
  }

  private struct Handler: LogHandler {
    let log: RecordedLog
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      if event.level == .warning { log.count.withLockedValue { $0 += 1 } }
    }
  }
}
