import Logging
import MagicalaneCore
import NIOCore

/// One event loop's connection to a tunnel's server: made when a stream is wanted, and made anew when it is
/// lost and a stream is wanted again.
///
///     idle ── request ──► connecting ── handshake ──► connected ── lost ──► idle
///      ▲                      └── failed ──► pausing ──┐
///      └───────────────────────────────────────────────┘ and on to connecting where requests wait
///
/// All calls on the loop.
final class QUICDialer {
  /// What all dialers of a transport share.
  struct Plan: Sendable {
    var server: Target
    var resolver: NameResolver
    var credentials: TLSClientCredentials
    var settings: QUICSettings
    /// Most bytes that may wait in one stream, per direction.
    var buffer: Int
    var logger: Logger
    var metrics: QUICMetrics
    /// Told of each attempt that failed, while requests still wait for the next one.
    var health: TransportHealth? = nil
  }

  private enum State {
    case idle
    case connecting
    case connected(QUICDriver)
    case pausing
    case shutDown
  }

  /// Refusals in a row, with nothing heard in between, after which an established connection is given up.
  private static let mostRefusals = 3

  private let loop: any EventLoop
  private let plan: Plan
  private let loopNumber: Int
  private let ids: ConnectionIDSource
  private var state = State.idle
  private var requests: [QUICStreamRequest] = []
  private var failures = 0
  /// Handshakes that are running or just won, by their UDP channel.
  private var attempts: [ObjectIdentifier: QUICDriver] = [:]
  private var endpoint: QUICEndpoint?
  private var ticket: [UInt8]?
  private var token: [UInt8] = []

  /// - Parameter loopNumber: tells the loops of a transport apart, in metrics.
  init(_ plan: Plan, on loop: any EventLoop, loopNumber: Int) {
    self.plan = plan
    self.loopNumber = loopNumber
    self.loop = loop
    // Nobody but this loop gets our datagrams, and a client never sends a stateless reset.
    ids = ConnectionIDSource(loop: 0, resetSecret: randomBytes(32))
  }

  /// A stream to the server.
  ///
  /// - Returns: fails with `OpenError`, at the deadline at the latest.
  func open(deadline: NIODeadline) -> EventLoopFuture<any Channel> {
    if case .connected(let driver) = state, let channel = driver.openNow() {
      return loop.makeSucceededFuture(channel)
    }
    let request = QUICStreamRequest(deadline: deadline, on: loop)
    switch state {
    case .connected(let driver): driver.open(request)
    case .idle:
      requests.append(request)
      connect()
    case .connecting, .pausing: requests.append(request)
    case .shutDown: request.fail(OpenError(.unavailable, "the transport is shutting down"))
    }
    return request.future
  }

  /// Closes the connection when the server has what ended streams left to send.
  func shutDown(within limit: TimeAmount) -> EventLoopFuture<Void> {
    let last = state
    state = .shutDown
    requests.forEach { $0.fail(OpenError(.unavailable, "the transport is shutting down")) }
    requests = []
    guard case .connected(let driver) = last, let endpoint else { return loop.makeSucceededVoidFuture() }
    let done = loop.makePromise(of: Void.self)
    driver.callbacks.closed = { _ in
      endpoint.close()
      done.succeed()
    }
    driver.finish(within: limit)
    return done.futureResult
  }

  // MARK: Connecting

  private func connect() {
    state = .connecting
    let limit = NIODeadline.now() + .nanoseconds(Int64(plan.settings.handshakeTimeout))
    let this = NIOLoopBound(self, eventLoop: loop)
    let result = plan.resolver.open(plan.server, deadline: limit, on: loop) { address in
      this.value.attempt(address)
    }
    result.assumeIsolated().whenComplete { self.connected($0) }
  }

  /// Tries one address; the future succeeds with its UDP channel when the handshake is complete.
  private func attempt(_ address: SocketAddress) -> EventLoopFuture<any Channel> {
    let endpoint = QUICEndpoint(
      on: loop,
      logger: plan.logger,
      metrics: plan.metrics,
      loopNumber: loopNumber
    )
    let promise = loop.makePromise(of: (any Channel).self)
    UDPSocket.connect(endpoint, to: address).assumeIsolated().whenComplete { result in
      switch result {
      case .success(let channel): self.shakeHands(endpoint, channel, address, promise)
      case .failure(let error):
        self.plan.metrics.handshakes.increment(.unreachable)
        promise.fail(error)
      }
    }
    return promise.futureResult
  }

  private func shakeHands(
    _ endpoint: QUICEndpoint,
    _ channel: any Channel,
    _ address: SocketAddress,
    _ promise: EventLoopPromise<any Channel>
  ) {
    guard let local = channel.localAddress else { return promise.fail(ChannelError.unknownLocalAddress) }
    let parts = QUICConnection.Parts(
      settings: plan.settings,
      ids: ids,
      local: local,
      remote: address,
      now: QUICEndpoint.now,
      log: plan.logger.quicLog
    )
    let driver: QUICDriver
    do {
      let connection = try QUICConnection(client: plan.credentials, ticket: takeTicket(), token: token, parts)
      driver = QUICDriver(connection, endpoint: endpoint, buffer: plan.buffer, logger: plan.logger)
    } catch {
      channel.close(promise: nil)
      return promise.fail(error)
    }
    attempts[ObjectIdentifier(channel)] = driver
    driver.callbacks.established = { promise.succeed(channel) }
    driver.callbacks.tokenReceived = { self.token = $0 }
    driver.callbacks.closed = { error in
      endpoint.close()
      self.attempts[ObjectIdentifier(channel)] = nil
      promise.fail(error)
    }
    endpoint.refused = { _ in driver.lose(.socket(.refused, "nothing listens at \(address)")) }
    endpoint.socketLost = {
      driver.lose(.socket(OpenError($0).kind, "the way to \(address) is closed: \($0)"))
    }
    endpoint.add(driver)
  }

  /// A ticket is used once, so that nobody can link two connections by it (RFC 8446 §C.4).
  private func takeTicket() -> [UInt8]? {
    defer { ticket = nil }
    return ticket
  }

  private func connected(_ result: Result<any Channel, any Error>) {
    switch result {
    case .success(let channel):
      guard let driver = attempts.removeValue(forKey: ObjectIdentifier(channel)) else {
        return failed(OpenError(.failed, "the tunnel's server closed the connection at once"))
      }
      adopt(driver, channel)
    case .failure(let error): failed(error)
    }
  }

  private func adopt(_ driver: QUICDriver, _ channel: any Channel) {
    if case .shutDown = state { return channel.close(promise: nil) }
    guard let endpoint = driver.endpoint, let remote = channel.remoteAddress else {
      return failed(OpenError(.failed, "the tunnel's server closed the connection at once"))
    }
    state = .connected(driver)
    self.endpoint = endpoint
    failures = 0
    driver.callbacks.closed = { error in self.lost(driver, endpoint, error) }
    endpoint.refused = { count in
      if count >= QUICDialer.mostRefusals {
        driver.lose(.socket(.refused, "nothing listens at \(remote) any more"))
      }
    }
    endpoint.socketLost = { [unowned endpoint] _ in
      endpoint.replaceSocket { [unowned endpoint] in UDPSocket.connect(endpoint, to: remote) }
    }
    let waiting = requests
    requests = []
    waiting.forEach(driver.open)
  }

  // MARK: Losing

  private func lost(_ driver: QUICDriver, _ endpoint: QUICEndpoint, _ error: QUICConnectionError) {
    ticket = driver.connection.tls?.ticket()
    endpoint.close()
    self.endpoint = nil
    if case .connected = state { state = .idle }
  }

  private func failed(_ error: any Error) {
    if case .shutDown = state { return }
    failures += 1
    // The race of addresses names every error that it does not know "failed".
    let cause = (error as? OpenError)?.cause as? QUICConnectionError
    let reason = OpenError(quic: cause ?? error)
    plan.logger.debug(
      "No QUIC connection to the server",
      metadata: ["server": "\(plan.server)", "reason": "\(reason)"]
    )
    plan.health?.failed(reason)
    let isFinal = cause.map { !$0.isTransient } ?? (reason.kind == .nameNotResolved)
    requests = requests.filter { $0.attemptFailed(reason, isFinal: isFinal) }
    state = .pausing
    loop.assumeIsolated().scheduleTask(in: pause) {
      guard case .pausing = self.state else { return }
      self.state = .idle
      self.requests.removeAll { $0.isDone }
      if !self.requests.isEmpty { self.connect() }
    }
  }

  /// Doubles with each failure, from 100 ms to 5 s, and varies by half, so that clients do not return to a
  /// server that comes back all at once.
  private var pause: TimeAmount {
    let longest = min(5000, 100 << min(failures - 1, 6))
    return .milliseconds(.random(in: Int64(longest / 2)...Int64(longest)))
  }
}
