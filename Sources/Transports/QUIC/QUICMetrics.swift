import MagicalaneCore
import Metrics
import NIOCore

/// How a QUIC handshake came to its end, as far as metrics tell it apart.
enum QUICHandshakeResult: String, MetricLabel, CaseIterable {
  case completed
  /// No answer, or not a whole one, in time.
  case timeout
  /// We did not take the peer's certificate.
  case certificateRefused = "certificate_refused"
  /// TLS failed for another reason, such as no common application protocol.
  case tls
  /// The peer closed: it is full or draining, or does not take our certificate.
  case closedByPeer = "closed_by_peer"
  /// Nothing listens there, or the socket cannot be used.
  case unreachable
  /// This end gave up.
  case closedHere = "closed_here"
  /// The peer broke the protocol, or the library failed.
  case protocolViolation = "protocol"
}

/// Why an established QUIC connection ended, as far as metrics tell it apart.
enum QUICCloseCause: String, MetricLabel, CaseIterable {
  case closedHere = "closed_here"
  /// The peer closed it and had no complaint.
  case closedByPeer = "closed_by_peer"
  /// The peer closed it with an error code.
  case peerError = "peer_error"
  case idleTimeout = "idle_timeout"
  /// The peer has lost the connection's state.
  case statelessReset = "stateless_reset"
  /// Nothing listens at the peer's address any more, or the socket cannot be used.
  case unreachable
  /// The peer broke the protocol, or the library failed.
  case protocolViolation = "protocol"
}

/// Counts the QUIC connections of one transport or of one frontend's listener, on all event loops.
///
/// Safe from any thread and without locks, but for what happens once per connection.
final class QUICMetrics: Sendable {
  let retries: Counter
  let statelessResets: Counter
  let streamsOpened: Counter
  let streamsActive: Meter
  let connectionsActive: Meter
  let resumptions: Counter
  let handshakeTime: Timer
  let handshakes: LabelledCounter<QUICHandshakeResult>
  let closes: LabelledCounter<QUICCloseCause>
  private let datagramsSent: Counter
  private let datagramsReceived: Counter
  /// A listener's.
  private let roundTrips: Recorder?
  private let names: [(String, String)]
  private let factory: any MetricsFactory

  /// For the connections that a transport makes.
  convenience init(transport: String, factory: any MetricsFactory = MetricsSystem.factory) {
    self.init([("role", "client"), ("transport", transport)], isServer: false, factory)
  }

  /// For the connections that a frontend accepts.
  convenience init(frontend: String, factory: any MetricsFactory = MetricsSystem.factory) {
    self.init([("role", "server"), ("frontend", frontend)], isServer: true, factory)
  }

  private init(_ names: [(String, String)], isServer: Bool, _ factory: any MetricsFactory) {
    self.names = names
    self.factory = factory
    func counter(_ name: String) -> Counter {
      Counter(label: "magicalane_quic_\(name)_total", dimensions: names, factory: factory)
    }
    func meter(_ name: String) -> Meter {
      Meter(label: "magicalane_quic_\(name)", dimensions: names, factory: factory)
    }
    func labelled<Label: MetricLabel & CaseIterable>(_ name: String, _ label: String) -> LabelledCounter<
      Label
    > {
      // All from the start, so that a successor's are there before this one's go.
      LabelledCounter(
        "magicalane_quic_\(name)_total",
        label: label,
        showing: Array(Label.allCases),
        dimensions: names,
        factory: factory
      )
    }
    retries = counter("retries")
    statelessResets = counter("stateless_resets")
    streamsOpened = counter("streams_opened")
    streamsActive = meter("streams_active")
    connectionsActive = meter("connections_active")
    resumptions = counter("resumptions")
    handshakeTime = Timer(
      label: "magicalane_quic_handshake_duration_seconds",
      dimensions: names,
      factory: factory
    )
    handshakes = labelled("handshakes", "result")
    closes = labelled("closes", "cause")
    datagramsSent = counter("datagrams_sent")
    datagramsReceived = counter("datagrams_received")
    roundTrips =
      isServer ? Recorder(label: "magicalane_quic_rtt_seconds", dimensions: names, factory: factory) : nil
  }

  deinit {
    for counter in [
      retries, statelessResets, streamsOpened, resumptions, datagramsSent, datagramsReceived,
    ] {
      counter.destroy()
    }
    streamsActive.destroy()
    connectionsActive.destroy()
    handshakeTime.destroy()
    roundTrips?.destroy()
  }

  /// Datagrams went through a socket; called once per batch.
  func datagrams(sent: Int, received: Int) {
    if sent > 0 { datagramsSent.increment(by: sent) }
    if received > 0 { datagramsReceived.increment(by: received) }
  }

  /// Where an established connection tells the state of its path.
  ///
  /// - Parameter loop: a number for its event loop; each has one connection at a time.
  func pathSamples(loop: Int) -> QUICPathSamples {
    if let roundTrips { return .histogram(roundTrips) }
    return .gauges(QUICPathGauges(names + [("loop", "\(loop)")], factory))
  }
}
