import Dispatch
import Metrics
import MetricsTestKit
import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct SessionMetricsTests {
  let factory = TestMetrics()
  let names = [("frontend", "f"), ("transport", "t")]

  private func total(_ label: String, _ more: [(String, String)] = []) throws -> Int64 {
    try factory.expectCounter(label, names + more).totalValue
  }

  @Test func `a session is counted at its start, its opening and its end`() throws {
    let metrics = SessionMetrics(frontend: "f", transport: "t", factory: factory)
    metrics.started()
    metrics.opened(after: .milliseconds(3))
    metrics.bytes(up: 10)
    metrics.bytes(up: 5)
    metrics.bytes(down: 7)
    #expect(try factory.expectMeter("magicalane_sessions_active", names).lastValue == 1)
    metrics.finished(.idle, after: .seconds(2))
    #expect(try factory.expectMeter("magicalane_sessions_active", names).lastValue == 0)
    #expect(try total("magicalane_sessions_started_total") == 1)
    #expect(try total("magicalane_bytes_total", [("direction", "up")]) == 15)
    #expect(try total("magicalane_bytes_total", [("direction", "down")]) == 7)
    #expect(try total("magicalane_sessions_finished_total", [("outcome", "idle")]) == 1)
    #expect(try factory.expectTimer("magicalane_open_duration_seconds", names).values == [3_000_000])
    #expect(try factory.expectTimer("magicalane_session_duration_seconds", names).values == [2_000_000_000])
  }

  @Test func `sessions on many threads add up`() throws {
    let metrics = SessionMetrics(frontend: "f", transport: "t", factory: factory)
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      for _ in 0..<100 {
        metrics.started()
        metrics.bytes(down: 3)
        if thread > 0 { metrics.finished(thread == 1 ? .finished : .refused(.timedOut), after: .zero) }
      }
    }
    #expect(try total("magicalane_sessions_started_total") == 400)
    #expect(try factory.expectMeter("magicalane_sessions_active", names).lastValue == 100)
    #expect(try total("magicalane_bytes_total", [("direction", "down")]) == 1200)
    #expect(try total("magicalane_sessions_finished_total", [("outcome", "finished")]) == 100)
    #expect(try total("magicalane_sessions_finished_total", [("outcome", "refused_timed_out")]) == 200)
  }

  @Test func `an outcome that never came is not shown`() {
    let metrics = SessionMetrics(frontend: "f", transport: "t", factory: factory)
    metrics.started()
    #expect(throws: (any Error).self) {
      try total("magicalane_sessions_finished_total", [("outcome", "idle")])
    }
  }

  @Test func `instruments go with their owner`() {
    do {
      let metrics = SessionMetrics(frontend: "f", transport: "t", factory: factory)
      metrics.started()
      metrics.finished(.finished, after: .zero)
      #expect(factory.counters.count == 5)
    }
    #expect(factory.counters.isEmpty && factory.meters.isEmpty && factory.timers.isEmpty)
  }

  @Test func `a route of the same names goes on with the metrics of the one before`() {
    let first = SessionMetrics(frontend: "f", transport: "t", factory: factory)
    #expect(SessionMetrics.following(first, frontend: "f", transport: "t") === first)
    #expect(SessionMetrics.following(first, frontend: "f", transport: "u") !== first)
    #expect(SessionMetrics.following(nil, frontend: "f", transport: "t") !== first)
  }

  @Test func `each outcome has a name of its own, in snake case`() {
    let outcomes: [SessionOutcome] =
      [.finished, .idle, .aborted, .clientError, .targetError, .badRequest, .handshakeTimeout, .clientLeft]
      + OpenError.Kind.allCases.map { .refused($0) }
    let names = Set(outcomes.map(\.labelValue))
    #expect(names.count == outcomes.count)
    #expect(names.contains("refused_host_unreachable"))
    #expect(names.allSatisfy { $0.allSatisfy { $0 == "_" || ("a"..."z").contains($0) } })
  }

  @Test func `a duplex's end has an outcome`() {
    struct Broken: Error {}
    #expect(SessionOutcome(.finished) == .finished)
    #expect(SessionOutcome(.idle) == .idle)
    #expect(SessionOutcome(.aborted(reason: "x")) == .aborted)
    #expect(SessionOutcome(.failed(.up, Broken())) == .clientError)
    #expect(SessionOutcome(.failed(.down, Broken())) == .targetError)
  }
}
