import MagicalaneCore
import Metrics
import NIOCore

/// Why TLS over TCP failed, as far as metrics tell it apart.
enum TLSFailureCause: String, MetricLabel, CaseIterable {
  /// Nobody that we trust signed the peer's certificate.
  case certificateUntrusted = "certificate_untrusted"
  /// It is for another name, address or purpose.
  case certificateNameMismatch = "certificate_name_mismatch"
  /// It has expired, or is not valid yet.
  case certificateExpired = "certificate_expired"
  /// Its key is not among the pins.
  case certificatePinMismatch = "certificate_pin_mismatch"
  /// The peer showed none.
  case certificateMissing = "certificate_missing"
  /// Anything else that is wrong with it.
  case certificateInvalid = "certificate_invalid"
  /// The peer ended the session with an alert.
  case alert
  /// The peer sent what is not TLS 1.3.
  case protocolViolation = "protocol"
  /// No common application protocol (ALPN).
  case noApplicationProtocol = "no_application_protocol"
  /// The peer closed before the handshake was complete.
  case closed
  /// This end gave up before the handshake was complete, most often because its time was over.
  case timeout
  /// After the handshake the connection ended without `close_notify`.
  case truncated
  /// Anything else, such as lack of memory.
  case failed
}

extension TLSFailureCause {
  /// - Parameter isHandshaking: whether the session was not open yet.
  init(_ error: any Error, isHandshaking: Bool) {
    guard let error = error as? TLSError else {
      self = isHandshaking ? .closed : .failed
      return
    }
    self =
      switch error.kind {
      case .certificateRefused: TLSFailureCause(error.fault)
      case .alertReceived: .alert
      case .protocolViolation: .protocolViolation
      case .truncated: isHandshaking ? .closed : .truncated
      case .noApplicationProtocol: .noApplicationProtocol
      case .failed: .failed
      }
  }

  private init(_ fault: CertificateFault?) {
    self =
      switch fault {
      case .untrusted: .certificateUntrusted
      case .nameMismatch: .certificateNameMismatch
      case .expired: .certificateExpired
      case .pinMismatch: .certificatePinMismatch
      case .missing: .certificateMissing
      case .invalid, nil: .certificateInvalid
      }
  }
}

/// Counts the TLS sessions of one transport or of one frontend's listener.
///
/// Safe from any thread; used when a session starts and ends, never per record.
final class TLSMetrics: Sendable {
  private let handshakes: Counter
  private let resumptions: Counter
  private let handshakeTime: Timer
  private let failures: LabelledCounter<TLSFailureCause>

  /// For the connections that a transport makes.
  convenience init(transport: String, factory: any MetricsFactory = MetricsSystem.factory) {
    self.init([("role", "client"), ("transport", transport)], factory)
  }

  /// For the connections that a frontend accepts.
  convenience init(frontend: String, factory: any MetricsFactory = MetricsSystem.factory) {
    self.init([("role", "server"), ("frontend", frontend)], factory)
  }

  private init(_ names: [(String, String)], _ factory: any MetricsFactory) {
    handshakes = Counter(label: "magicalane_tls_handshakes_total", dimensions: names, factory: factory)
    resumptions = Counter(label: "magicalane_tls_resumptions_total", dimensions: names, factory: factory)
    handshakeTime = Timer(
      label: "magicalane_tls_handshake_duration_seconds",
      dimensions: names,
      factory: factory
    )
    // All from the start, so that a successor's are there before this one's go.
    failures = LabelledCounter(
      "magicalane_tls_failures_total",
      label: "cause",
      showing: TLSFailureCause.allCases,
      dimensions: names,
      factory: factory
    )
  }

  deinit {
    handshakes.destroy()
    resumptions.destroy()
    handshakeTime.destroy()
  }

  /// A handshake is complete.
  func handshakeDone(after time: TimeAmount, isResumed: Bool) {
    handshakes.increment()
    if isResumed { resumptions.increment() }
    handshakeTime.recordNanoseconds(time.nanoseconds)
  }

  func failed(_ cause: TLSFailureCause) {
    failures.increment(cause)
  }
}
