import NIOCore

/// What one connection adds to the metrics of its pool, each step once.
///
///     handshaking ──established──► established ──closed──► over
///          └────────────────closed──────────────────────────┘
struct QUICConnectionCount {
  private enum State { case handshaking, established, over }

  private let metrics: QUICMetrics
  private let start: UInt64
  private let loop: Int
  private var state = State.handshaking
  /// Nil before the handshake is complete and after the end.
  private var samples: QUICPathSamples?
  private var nextSample = UInt64.max

  /// - Parameter loop: a number for the connection's event loop.
  init(_ metrics: QUICMetrics, loop: Int, now: UInt64) {
    self.metrics = metrics
    self.loop = loop
    start = now
    metrics.connectionsActive.increment()
  }

  mutating func established(_ connection: QUICConnection, now: UInt64) {
    guard state == .handshaking else { return }
    state = .established
    metrics.handshakes.increment(.completed)
    metrics.handshakeTime.recordNanoseconds(Int64(clamping: now - start))
    if connection.tls?.isResumed == true { metrics.resumptions.increment() }
    countRetry(connection)
    samples = metrics.pathSamples(loop: loop)
    nextSample = now
  }

  mutating func closed(_ connection: QUICConnection, _ error: QUICConnectionError) {
    switch state {
    case .handshaking:
      metrics.handshakes.increment(QUICHandshakeResult(error, isRefusal: connection.tls?.refusal != nil))
      countRetry(connection)
    case .established: metrics.closes.increment(QUICCloseCause(error))
    case .over: return
    }
    state = .over
    metrics.connectionsActive.decrement()
    samples = nil
    nextSample = .max
  }

  /// A server may ask for one per connection (RFC 9000 §17.2.5.2).
  private func countRetry(_ connection: QUICConnection) {
    if connection.wasRetried { metrics.retries.increment() }
  }

  /// Tells the state of the path, once a second at most; called whenever the connection is served.
  mutating func sample(_ connection: QUICConnection, now: UInt64) {
    guard now >= nextSample, let state = connection.pathState else { return }
    nextSample = now + QUICPathSamples.interval
    samples?.record(state)
  }

  func streamOpened() {
    metrics.streamsOpened.increment()
    metrics.streamsActive.increment()
  }

  func streamEnded() {
    metrics.streamsActive.decrement()
  }
}

extension QUICHandshakeResult {
  /// - Parameter isRefusal: we did not take the peer's certificate.
  init(_ error: QUICConnectionError, isRefusal: Bool) {
    self =
      switch error {
      case .idleTimeout, .handshakeTimeout: .timeout
      case .tls: isRefusal ? .certificateRefused : .tls
      case .closedByPeer, .statelessReset: .closedByPeer
      case .socket: .unreachable
      case .closedHere: .closedHere
      case .failed: .protocolViolation
      }
  }
}

extension QUICCloseCause {
  init(_ error: QUICConnectionError) {
    self =
      switch error {
      case .closedHere: .closedHere
      case .closedByPeer(let code, _): code == 0 ? .closedByPeer : .peerError
      case .idleTimeout: .idleTimeout
      case .statelessReset: .statelessReset
      case .socket: .unreachable
      case .handshakeTimeout, .tls, .failed: .protocolViolation
      }
  }
}
