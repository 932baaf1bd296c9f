import Metrics
import NIOCore

/// How a session ended, as far as metrics tell it apart.
enum SessionOutcome: Hashable, Sendable {
  /// Both directions came to their end.
  case finished
  /// No byte moved for the idle time-out.
  case idle
  /// This end broke it off: the drain time was over, or somebody deleted it.
  case aborted
  /// The client's stream broke.
  case clientError
  /// The target's stream broke.
  case targetError
  /// The stream to the target could not be opened.
  case refused(OpenError.Kind)
  /// The frontend refused the request itself: it is malformed, or its credentials are wrong.
  case badRequest
  /// The request was not complete in time.
  case handshakeTimeout
  /// The client went away before it had its answer.
  case clientLeft
  /// The client asked for reports, and had them until it left, or this end was draining.
  case reported
}

extension SessionOutcome: MetricLabel {
  var labelValue: String {
    switch self {
    case .finished: "finished"
    case .idle: "idle"
    case .aborted: "aborted"
    case .clientError: "client_error"
    case .targetError: "target_error"
    case .refused(let kind): "refused_" + SessionOutcome.snakeCase(kind.rawValue)
    case .badRequest: "bad_request"
    case .handshakeTimeout: "handshake_timeout"
    case .clientLeft: "client_left"
    case .reported: "reported"
    }
  }

  /// How a duplex's end is counted.
  init(_ outcome: Duplex.Outcome) {
    self =
      switch outcome {
      case .finished: .finished
      case .idle: .idle
      case .aborted: .aborted
      case .failed(.up, _): .clientError
      case .failed(.down, _): .targetError
      }
  }

  private static func snakeCase(_ name: String) -> String {
    name.reduce(into: "") { $0 += $1.isUppercase ? "_" + $1.lowercased() : String($1) }
  }
}

/// Counts the sessions of one frontend through one transport.
///
/// Safe from any thread. To count a batch of bytes is one atomic addition; a lock is taken when a session ends.
final class SessionMetrics: Sendable {
  private let frontend: String
  private let transport: String
  private let startedCount: Counter
  private let reopenedCount: Counter
  private let active: Meter
  private let up: Counter
  private let down: Counter
  private let openingTime: Timer
  private let sessionTime: Timer
  private let outcomes: LabelledCounter<SessionOutcome>

  /// - Parameters:
  ///   - frontend: its name in the config.
  ///   - transport: its name in the config.
  init(frontend: String, transport: String, factory: any MetricsFactory = MetricsSystem.factory) {
    self.frontend = frontend
    self.transport = transport
    let names = [("frontend", frontend), ("transport", transport)]
    func bytes(_ direction: String) -> Counter {
      Counter(
        label: "magicalane_bytes_total",
        dimensions: names + [("direction", direction)],
        factory: factory
      )
    }
    startedCount = Counter(label: "magicalane_sessions_started_total", dimensions: names, factory: factory)
    reopenedCount = Counter(label: "magicalane_sessions_reopened_total", dimensions: names, factory: factory)
    active = Meter(label: "magicalane_sessions_active", dimensions: names, factory: factory)
    up = bytes("up")
    down = bytes("down")
    openingTime = Timer(label: "magicalane_open_duration_seconds", dimensions: names, factory: factory)
    sessionTime = Timer(label: "magicalane_session_duration_seconds", dimensions: names, factory: factory)
    outcomes = LabelledCounter(
      "magicalane_sessions_finished_total",
      label: "outcome",
      dimensions: names,
      factory: factory
    )
  }

  deinit {
    startedCount.destroy()
    reopenedCount.destroy()
    active.destroy()
    up.destroy()
    down.destroy()
    openingTime.destroy()
    sessionTime.destroy()
  }

  /// The metrics for a route that takes the place of one with `previous`: those, where the names are the same,
  /// so that every total goes on.
  static func following(_ previous: SessionMetrics?, frontend: String, transport: String) -> SessionMetrics {
    if let previous, previous.frontend == frontend, previous.transport == transport { return previous }
    return SessionMetrics(frontend: frontend, transport: transport)
  }

  /// A stream was accepted; `finished` follows, once.
  func started() {
    startedCount.increment()
    active.increment()
  }

  /// Bytes went from the client to the target.
  func bytes(up count: Int) {
    up.increment(by: count)
  }

  /// Bytes went from the target to the client.
  func bytes(down count: Int) {
    down.increment(by: count)
  }

  /// The stream to the target is open, so long after it was asked for.
  func opened(after time: TimeAmount) {
    openingTime.recordNanoseconds(time.nanoseconds)
  }

  /// A stream to the target that broke before it answered was replaced by another one.
  func reopened() {
    reopenedCount.increment()
  }

  /// The session is over, so long after it started.
  func finished(_ outcome: SessionOutcome, after time: TimeAmount) {
    active.decrement()
    outcomes.increment(outcome)
    sessionTime.recordNanoseconds(time.nanoseconds)
  }
}
