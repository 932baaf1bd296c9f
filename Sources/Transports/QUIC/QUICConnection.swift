import CNgtcp2
import DequeModule
import NIOCore

/// One QUIC version 1 connection (RFC 9000), without a socket and without a clock.
///
/// Datagrams and times go in; datagrams, events and the next deadline come out. The owner calls, always on
/// one event loop and with times that never go back:
///
///     receive*  ─┐
///     timeout    ├─► take events, tell streams ─► nextBatch until nil ─► wait for `wakeUp`
///     stream use ┘
///
/// ngtcp2 must not be asked to write from inside its own callbacks; they only record what happened.
/// Its states, as seen from outside:
///
///     handshaking ─► established ─► closing ──┐   we closed: the last packet is repeated to who still sends
///          │              │       draining ───┼─► ended
///          └──────────────┴────────────────── ┘   the peer closed: nothing is sent
final class QUICConnection {
  /// What happened to the connection as a whole.
  enum Event {
    /// Both ends know each other; streams may be opened.
    case established
    /// The peer opened a stream.
    case streamOpened(QUICStream)
    /// The peer allows more streams.
    case streamsAllowed
    /// Packets for this connection may carry this ID from now on.
    case connectionIDAdded(ConnectionID)
    case connectionIDRetired(ConnectionID)
    /// A token for the next connection to the same server (RFC 9000 §8.1.3).
    case tokenReceived([UInt8])
    /// The connection is over for its streams. It may still answer late packets until `ended`.
    case closed(QUICConnectionError)
    /// Nothing more will happen; the owner may let go of it.
    case ended
  }

  enum State: Equatable {
    case handshaking
    case established
    case closing(until: UInt64)
    case draining(until: UInt64)
    case ended
  }

  var state = State.handshaking
  var events: [Event] = []
  /// Streams with news for their users, each once.
  var changed: [QUICStream] = []
  /// Every stream that ngtcp2 knows.
  var streams: [Int64: QUICStream] = [:]
  /// Streams that want to send, in the order of their turns.
  var sendTurns: Deque<QUICStream> = []
  /// Streams whose window was full when they last had a turn.
  var blocked: Deque<QUICStream> = []
  /// Bytes left of the turn of the first of them.
  var turnLeft = QUICConnection.turn
  /// Whether a stream that the peer closes makes room for another.
  var acceptsStreams = true

  let isServer: Bool
  let settings: QUICSettings
  let ids: ConnectionIDSource
  /// Makes the token that a client shows at its next visit; nil on clients.
  let tokens: AddressTokens?
  let log: (@Sendable (String) -> Void)?
  /// Owned, freed in `deinit`, after ngtcp2 and GnuTLS, which point to it.
  let anchor: UnsafeMutablePointer<shim_anchor>
  /// Set once, in the initializers.
  private(set) var tls: QUICTLSSession?
  let output: QUICPacketOutput

  /// The ngtcp2 connection: owned, freed in `deinit`. It exists once an initializer is through.
  var conn: OpaquePointer { anchor.pointee.conn }

  /// What it counts of its path; goes on when the connection is no more.
  private(set) lazy var pathSource = QUICPathSource(self)
  /// Datagrams that were made, whatever became of them, but for those that only try whether the path carries
  /// larger ones (RFC 9000 §14.4): that those are lost says nothing.
  var datagramsSent: UInt64 = 0
  private(set) var datagramsReceived: UInt64 = 0

  /// When the last datagram was read.
  private(set) var lastReceived: UInt64 = 0
  var handshakeDone = false
  var wasReset = false
  /// The server asked a client to prove its address.
  var wasRetried = false
  /// CONNECTION_CLOSE, ready to be sent again (RFC 9000 §10.2.1).
  var closePacket: [UInt8] = []
  var isClosePacketDue = false
  private var packetsWhileClosing = 0

  /// Bytes that one stream may send before it is another's turn.
  static let turn = 16 << 10

  /// What both kinds of connection are made from.
  struct Parts {
    var settings: QUICSettings
    var ids: ConnectionIDSource
    var local: SocketAddress
    var remote: SocketAddress
    var now: UInt64
    var log: (@Sendable (String) -> Void)?
  }

  private init(_ parts: Parts, isServer: Bool, tokens: AddressTokens?) {
    self.isServer = isServer
    self.tokens = tokens
    var settings = parts.settings
    settings.windows.settle()
    self.settings = settings
    ids = parts.ids
    log = parts.log
    output = QUICPacketOutput(remote: parts.remote)
    anchor = .allocate(capacity: 1)
    anchor.initialize(to: shim_anchor())
    shim_anchor_init(anchor, Unmanaged.passUnretained(self).toOpaque()) { owner, line in
      guard let owner, let line else { return }
      Unmanaged<QUICConnection>.fromOpaque(owner).takeUnretainedValue().log?(String(cString: line))
    }
  }

  deinit {
    // ngtcp2 frees its keys through GnuTLS functions that need no session.
    if let conn = anchor.pointee.conn { ngtcp2_conn_del(conn) }
    tls = nil
    anchor.deallocate()
  }

  /// A client's connection; its first packet is ready at once.
  ///
  /// - Parameters:
  ///   - ticket: of an earlier session with this server, to resume it.
  ///   - token: from an earlier connection to this server.
  convenience init(
    client credentials: TLSClientCredentials,
    ticket: [UInt8]? = nil,
    token: [UInt8] = [],
    _ parts: Parts
  ) throws {
    self.init(parts, isServer: false, tokens: nil)
    let source = parts.ids.make()
    // The server's first ID is ours to choose (RFC 9000 §7.2).
    var dcid = parts.ids.make().cid
    var scid = source.cid
    var callbacks = QUICConnection.callbacks(isServer: false)
    var transport = transportSettings(parts.now)
    var parameters = transportParameters()
    let path = QUICPath(local: parts.local, remote: parts.remote)
    try token.withUnsafeBufferPointer { token in
      shim_settings_token(&transport, token.baseAddress, token.count)
      try check(
        shim_conn_client_new(
          anchor,
          &dcid,
          &scid,
          path.pointer,
          NGTCP2_PROTO_VER_V1,
          &callbacks,
          &transport,
          &parameters
        )
      )
    }
    try startTLS(.client(credentials), ticket: ticket)
    events.append(.connectionIDAdded(source))
  }

  /// A server's answer to a client's first packet.
  ///
  /// - Parameters:
  ///   - header: of that packet, which must be handed to `receive` next.
  ///   - original: where the client came back after a Retry, the ID that it first chose.
  ///   - isValidated: whether the packet's token proved the client's address (RFC 9000 §8.1).
  convenience init(
    server credentials: TLSServerCredentials,
    header: ngtcp2_pkt_hd,
    original: ConnectionID?,
    isValidated: Bool,
    tokens: AddressTokens,
    _ parts: Parts
  ) throws {
    self.init(parts, isServer: true, tokens: tokens)
    let source = parts.ids.make()
    var dcid = header.scid
    var scid = source.cid
    var callbacks = QUICConnection.callbacks(isServer: true)
    var transport = transportSettings(parts.now)
    if isValidated { shim_settings_token(&transport, header.token.base, header.token.len) }
    var parameters = transportParameters()
    if let original {
      parameters.original_dcid = original.cid
      parameters.retry_scid = header.dcid
      parameters.retry_scid_present = 1
    } else {
      parameters.original_dcid = header.dcid
    }
    var resetToken = [UInt8](repeating: 0, count: Int(NGTCP2_STATELESS_RESET_TOKENLEN))
    if parts.ids.writeResetToken(of: source, to: &resetToken) {
      shim_params_reset_token(&parameters, resetToken)
    }
    let path = QUICPath(local: parts.local, remote: parts.remote)
    try check(
      shim_conn_server_new(
        anchor,
        &dcid,
        &scid,
        path.pointer,
        header.version,
        &callbacks,
        &transport,
        &parameters
      )
    )
    try startTLS(.server(credentials), ticket: nil)
    events.append(.connectionIDAdded(source))
    events.append(.connectionIDAdded(ConnectionID(header.dcid)))
  }

  private func startTLS(_ credentials: QUICTLSSession.Credentials, ticket: [UInt8]?) throws {
    let session = try QUICTLSSession(credentials, anchor: anchor, ticket: ticket)
    tls = session
    ngtcp2_conn_set_tls_native_handle(conn, UnsafeMutableRawPointer(session.handle))
  }

  private func check(_ result: CInt) throws {
    guard result == 0 else { throw QUICConnectionError.failed(code: result) }
  }

  private func transportSettings(_ now: UInt64) -> ngtcp2_settings {
    var transport = ngtcp2_settings()
    shim_settings_default(&transport)
    transport.initial_ts = now
    transport.cc_algo = settings.congestion.algorithm
    transport.handshake_timeout = settings.handshakeTimeout
    // No larger windows by itself: see `QUICStreamWindow`.
    transport.max_window = 0
    transport.max_stream_window = 0
    if log != nil { shim_settings_log(&transport) }
    return transport
  }

  private func transportParameters() -> ngtcp2_transport_params {
    var parameters = ngtcp2_transport_params()
    shim_transport_params_default(&parameters)
    parameters.initial_max_stream_data_bidi_local = settings.windows.initialStream
    parameters.initial_max_stream_data_bidi_remote = settings.windows.initialStream
    parameters.initial_max_data = settings.windows.connection
    parameters.initial_max_streams_bidi = UInt64(settings.maxStreams)
    parameters.initial_max_streams_uni = 0
    parameters.max_idle_timeout = settings.idleTimeout
    parameters.active_connection_id_limit = 7
    return parameters
  }
}

// MARK: - In and out

extension QUICConnection {
  /// Whether streams can be used.
  var isOpen: Bool {
    switch state {
    case .handshaking, .established: true
    case .closing, .draining, .ended: false
    }
  }

  /// Where the peer is, as far as the path to it is known to work.
  var remoteAddress: SocketAddress? { output.remote(of: ngtcp2_conn_get_path(conn)) }

  /// What ngtcp2 knows of the path.
  var statistics: ngtcp2_conn_stat {
    var stat = ngtcp2_conn_stat()
    shim_conn_get_stat(conn, &stat)
    return stat
  }

  /// What ngtcp2 waits for next; nil where that is nothing.
  var deadline: UInt64? {
    switch state {
    case .handshaking, .established:
      let expiry = ngtcp2_conn_get_expiry(conn)
      return expiry == .max ? nil : expiry
    case .closing(let until), .draining(let until): return until
    case .ended: return nil
    }
  }

  /// Reads one datagram.
  ///
  /// - Parameters:
  ///   - packet: borrowed for the call; not empty.
  ///   - path: where it came from and where it arrived.
  ///   - ecn: its ECN bits (RFC 3168 §5).
  func receive(_ packet: UnsafeRawBufferPointer, on path: QUICPath, ecn: UInt8, now: UInt64) {
    switch state {
    case .handshaking, .established: break
    case .closing: return answerWhileClosing()
    case .draining, .ended: return
    }
    guard let bytes = packet.bindMemory(to: UInt8.self).baseAddress, packet.count > 0 else { return }
    lastReceived = now
    datagramsReceived += 1
    let result = shim_conn_read_pkt(conn, path.pointer, ecn, bytes, packet.count, now)
    guard result == 0 else { return failed(result, now: now) }
    if handshakeDone && state == .handshaking { finishHandshake(now: now) }
  }

  /// Does what is due by `now`.
  func timeout(now: UInt64) {
    switch state {
    case .handshaking, .established:
      guard ngtcp2_conn_get_expiry(conn) <= now else { return }
      forgetWakeUp()
      let before = statistics
      let result = ngtcp2_conn_handle_expiry(conn, now)
      guard result == 0 else { return failed(result, now: now) }
      if isLossFound(before, now: now) { output.noteLoss(before, now: now) }
    case .closing(let until), .draining(let until):
      if until <= now { end() }
    case .ended: return
    }
  }

  /// Whether the timer found a loss, by the time that passed or by the lack of any answer (RFC 9002 §6).
  private func isLossFound(_ before: ngtcp2_conn_stat, now: UInt64) -> Bool {
    state == .established && (before.loss_time.2 <= now || statistics.pto_count > before.pto_count)
  }

  /// Ends the connection; streams that are not finished are lost.
  func close(code: UInt64 = QUICApplicationCode.none, now: UInt64) {
    guard isOpen else { return }
    leave(.closedHere, now: now) { shim_conn_write_application_close(self.conn, $0, $1, code, now) }
  }

  /// Ends the connection without telling the peer.
  func abandon(_ error: QUICConnectionError) {
    if isOpen { finish(error, .ended) }
  }

  private func finishHandshake(now: UInt64) {
    guard tls?.hasApplicationProtocol == true else {
      let alert: UInt8 = 120  // no_application_protocol, RFC 7301 §3.2
      return leave(.tls("no common application protocol"), now: now) {
        shim_conn_write_alert_close(self.conn, $0, $1, alert, now)
      }
    }
    state = .established
    events.append(.established)
    setKeepAlive()
    guard isServer else { return }
    tls?.sendTicket()
    if let token = tokens?.make(for: ngtcp2_conn_get_path(conn).pointee.remote, now: now) {
      ngtcp2_conn_submit_new_token(conn, token, token.count)
    }
  }

  /// Acts on an error of ngtcp2.
  func failed(_ code: CInt, now: UInt64) {
    switch code {
    case NGTCP2_ERR_DRAINING:
      finish(peerError, .draining(until: now + closingTime))
    case NGTCP2_ERR_IDLE_CLOSE:
      finish(.idleTimeout, .ended)
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
      finish(.handshakeTimeout, .ended)
    case NGTCP2_ERR_DROP_CONN, NGTCP2_ERR_RETRY, NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
      finish(.failed(code: code), .ended)
    default:
      leave(code == NGTCP2_ERR_CRYPTO ? .tls(tlsFailure) : .failed(code: code), now: now) {
        shim_conn_write_transport_close(self.conn, $0, $1, code, now)
      }
    }
  }

  private var tlsFailure: String {
    tls?.refusal?.reason ?? QUICConnectionError.alertName(ngtcp2_conn_get_tls_alert(conn))
  }

  private var peerError: QUICConnectionError {
    if wasReset { return .statelessReset }
    var isApplication: CInt = 0
    let code = shim_conn_peer_error(conn, &isApplication)
    return .closedByPeer(code: code, isApplication: isApplication != 0)
  }

  /// RFC 9000 §10.2: three times the probe time-out.
  private var closingTime: UInt64 { 3 * ngtcp2_conn_get_pto(conn) }

  private func leave(
    _ error: QUICConnectionError,
    now: UInt64,
    write: (UnsafeMutablePointer<UInt8>, Int) -> ngtcp2_ssize
  ) {
    let until = now + closingTime
    let size = Int(NGTCP2_MAX_UDP_PAYLOAD_SIZE)
    closePacket = [UInt8](unsafeUninitializedCapacity: size) { target, count in
      // The array was given room for `size` bytes, so there is a base address.
      count = max(0, target.baseAddress.map { write($0, size) } ?? 0)
    }
    isClosePacketDue = !closePacket.isEmpty
    finish(error, closePacket.isEmpty ? .ended : .closing(until: until))
  }

  private func finish(_ error: QUICConnectionError, _ next: State) {
    state = next
    sendTurns.removeAll()
    blocked.removeAll()
    pathSource.end()
    events.append(.closed(error))
    if next == .ended { events.append(.ended) }
  }

  private func end() {
    state = .ended
    events.append(.ended)
  }

  /// Repeats CONNECTION_CLOSE for the first late packet, the second, the fourth and so on (RFC 9000 §10.2.1).
  private func answerWhileClosing() {
    packetsWhileClosing += 1
    if packetsWhileClosing & (packetsWhileClosing - 1) == 0 { isClosePacketDue = true }
  }
}
