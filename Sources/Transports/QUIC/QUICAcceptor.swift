import CNgtcp2
import Logging
import NIOCore

/// When a server answers a client's first packet with a Retry, so that the client must prove its address
/// before it costs us anything (RFC 9000 §8.1.2).
enum QUICRetryPolicy: String, Decodable, Sendable, CaseIterable {
  /// While many handshakes are unfinished.
  case auto
  case always
  case never
}

/// A server's dealings with datagrams that belong to no connection: it admits new ones, and answers the rest
/// as RFC 9000 asks, at a rate that makes it no amplifier.
final class QUICAcceptor {
  /// What is the same for all sockets of a listener.
  struct Rules: Sendable {
    var credentials: TLSServerCredentials
    var settings: QUICSettings
    var retry: QUICRetryPolicy
    /// Most connections on one event loop.
    var maxConnections: Int
    /// Most bytes that may wait in one stream, per direction.
    var buffer: Int
    var tokens: AddressTokens
    var metrics: QUICMetrics
    var accept: @Sendable (any Channel) -> EventLoopFuture<Void>
  }

  /// Unfinished handshakes on one loop from which on clients must prove their address.
  static let manyHandshakes = 128
  /// Unfinished handshakes on one loop; more are not answered.
  static let mostHandshakes = 1024

  /// False once the listener drains: nobody new comes in.
  var isAccepting = true
  /// Takes datagrams to the loop with this index; set by the listener.
  ///
  /// It returns false where there is no such loop.
  var forward: (_ loop: Int, _ bytes: ByteBuffer, _ remote: SocketAddress, _ ecn: UInt8) -> Bool = {
    _,
    _,
    _,
    _ in false
  }

  private var rules: Rules
  private let ids: ConnectionIDSource
  private unowned let endpoint: QUICEndpoint
  private var connections = 0
  private var handshakes = 0
  private var answers = TokenBucket(perSecond: 500)

  /// - Parameter endpoint: outlives the acceptor, which it calls.
  init(_ rules: Rules, ids: ConnectionIDSource, endpoint: QUICEndpoint) {
    self.rules = rules
    self.ids = ids
    self.endpoint = endpoint
  }

  /// Goes by other rules from now on; tokens that were given out stay good. Called on the loop.
  func follow(_ next: Rules) {
    let tokens = rules.tokens
    rules = next
    rules.tokens = tokens
    endpoint.metrics = next.metrics
    for driver in endpoint.connections { driver.callbacks.accept = next.accept }
  }

  func take(_ datagram: QUICEndpoint.Datagram) {
    switch datagram.start {
    case .malformed:
      endpoint.logger.debug("Datagram is no QUIC packet", metadata: metadata(datagram))
    case .otherVersion(let destination, let source):
      guard datagram.bytes.count >= QUICPacket.smallestFirstDatagram, answers.take(now: datagram.now) else {
        return
      }
      endpoint.send(
        QUICPacket.versionNegotiation(destination: destination, source: source),
        to: datagram.remote
      )
    case .known(let id, let isLong):
      if let header = isLong ? QUICPacket.firstHeader(datagram.bytes) : nil {
        admit(header, datagram)
      } else {
        redirect(id, datagram)
      }
    }
  }

  /// A packet of a connection that another loop has, or that is no more.
  private func redirect(_ id: ConnectionID, _ datagram: QUICEndpoint.Datagram) {
    let loop = ConnectionIDSource.loop(of: id)
    if id.count == ConnectionIDSource.length, loop != ids.loop, !datagram.isForwarded {
      if forward(Int(loop), ByteBuffer(bytes: datagram.bytes), datagram.remote, datagram.ecn) { return }
    }
    reset(id, datagram)
  }

  private func reset(_ id: ConnectionID, _ datagram: QUICEndpoint.Datagram) {
    guard case .known(_, isLong: false) = datagram.start, answers.take(now: datagram.now),
      let packet = QUICPacket.statelessReset(for: id, ids: ids, triggerSize: datagram.bytes.count)
    else { return }
    endpoint.logger.debug("Packet for a connection that is not known", metadata: metadata(datagram))
    endpoint.send(packet, to: datagram.remote)
    rules.metrics.statelessResets.increment()
  }

  // MARK: Admission

  private func admit(_ header: ngtcp2_pkt_hd, _ datagram: QUICEndpoint.Datagram) {
    guard isAccepting, connections < rules.maxConnections else {
      return refuse(header, datagram, code: UInt64(NGTCP2_CONNECTION_REFUSED))
    }
    guard handshakes < QUICAcceptor.mostHandshakes else { return }
    let address = datagram.path.pointer.pointee.remote
    switch rules.tokens.check(header, from: address, now: datagram.now) {
    case .invalid: refuse(header, datagram, code: UInt64(NGTCP2_INVALID_TOKEN))
    case .unknown where mustProveAddress: sendRetry(header, datagram)
    case .unknown: start(header, datagram, original: nil, isValidated: false)
    case .valid: start(header, datagram, original: nil, isValidated: true)
    case .retried(let original): start(header, datagram, original: original, isValidated: true)
    }
  }

  private var mustProveAddress: Bool {
    switch rules.retry {
    case .always: true
    case .never: false
    case .auto: handshakes >= QUICAcceptor.manyHandshakes
    }
  }

  private func refuse(_ header: ngtcp2_pkt_hd, _ datagram: QUICEndpoint.Datagram, code: UInt64) {
    guard answers.take(now: datagram.now) else { return }
    endpoint.logger.debug("QUIC connection refused", metadata: metadata(datagram))
    endpoint.send(QUICPacket.refusal(header, code: code), to: datagram.remote)
  }

  private func sendRetry(_ header: ngtcp2_pkt_hd, _ datagram: QUICEndpoint.Datagram) {
    let id = ids.make()
    let address = datagram.path.pointer.pointee.remote
    guard let token = rules.tokens.makeRetry(for: address, header: header, id: id, now: datagram.now) else {
      return
    }
    endpoint.send(QUICPacket.retry(header, id: id, token: token), to: datagram.remote)
    rules.metrics.retries.increment()
  }

  private func start(
    _ header: ngtcp2_pkt_hd,
    _ datagram: QUICEndpoint.Datagram,
    original: ConnectionID?,
    isValidated: Bool
  ) {
    guard let local = endpoint.channel?.localAddress else { return }
    let parts = QUICConnection.Parts(
      settings: rules.settings,
      ids: ids,
      local: local,
      remote: datagram.remote,
      now: datagram.now,
      log: endpoint.logger.quicLog
    )
    do {
      let connection = try QUICConnection(
        server: rules.credentials,
        header: header,
        original: original,
        isValidated: isValidated,
        tokens: rules.tokens,
        parts
      )
      run(connection, datagram)
    } catch {
      endpoint.logger.debug("QUIC connection could not be made", metadata: ["error": "\(error)"])
    }
  }

  private func run(_ connection: QUICConnection, _ datagram: QUICEndpoint.Datagram) {
    let driver = QUICDriver(connection, endpoint: endpoint, buffer: rules.buffer, logger: endpoint.logger)
    connections += 1
    handshakes += 1
    var isHandshaking = true
    func handshakeOver() {
      if isHandshaking { handshakes -= 1 }
      isHandshaking = false
    }
    driver.callbacks.accept = rules.accept
    driver.callbacks.established = { handshakeOver() }
    driver.callbacks.closed = { [weak self] _ in
      handshakeOver()
      self?.connections -= 1
    }
    if !isAccepting { connection.stopAcceptingStreams() }
    driver.receive(datagram.bytes, on: datagram.path, ecn: datagram.ecn, now: datagram.now)
    endpoint.add(driver)
  }

  private func metadata(_ datagram: QUICEndpoint.Datagram) -> Logger.Metadata {
    ["remote": "\(datagram.remote)", "bytes": "\(datagram.bytes.count)"]
  }
}

extension Logger {
  /// Where ngtcp2's own log goes: to trace, and nowhere where that is off.
  var quicLog: (@Sendable (String) -> Void)? {
    guard logLevel <= .trace else { return nil }
    return { line in self.trace("\(line)") }
  }
}
