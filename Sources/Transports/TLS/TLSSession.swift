import CGnuTLS
import DequeModule
import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// One `gnutls_session_t`, without a socket: ciphertext goes in and out as buffers.
///
/// The order of calls: `handshake` until it is done, with what it wants to send taken from `takeOutput` and
/// what the peer sent given to `receive`; then `read` and `write` in any order, and `endOutput` last. After
/// an error only `takeOutput` is of use, for the alert.
///
/// Not thread-safe.
final class TLSSession {
  /// Which end this is, and by whose credentials.
  enum Role {
    case client(TLSClientCredentials, ticket: [UInt8]?)
    case server(TLSServerCredentials)
  }

  /// What `read` came to.
  enum ReadResult {
    /// The buffer is full; there may be more.
    case full
    /// All that was received has been read.
    case starved
    /// The peer sent `close_notify`: there is no more.
    case ended
    case failed(TLSError)
  }

  /// The largest plaintext of one record (RFC 8446 §5.1).
  static let recordSize = 16384
  /// Header, content type and tag of one record, under any cipher of TLS 1.3.
  private static let recordOverhead = 22
  /// A usual ticket of ours as a record; a larger one makes the output grow.
  private static let ticketSize = 512

  /// Owned, freed in `deinit`.
  private let handle: gnutls_session_t
  /// What the session points to must outlive it.
  private let role: Role
  private let verification: PeerVerification?

  private var received = Deque<ByteBuffer>()
  private var receivedBytes = 0
  /// Ciphertext that GnuTLS took in and has not turned into plaintext.
  private var heldBytes = 0
  /// The last pull found nothing.
  private var isStarved = false
  private var output = ByteBuffer()
  private var hasGivenTicket = false
  /// The handshake is done and the client has no ticket yet.
  private(set) var owesTicket = false

  /// - Throws: `GnuTLSFailure` where GnuTLS lacks memory or does not know our settings.
  init(_ role: Role, applicationProtocol: String) throws(GnuTLSFailure) {
    let flags: [gnutls_init_flags_t] =
      switch role {
      // One key share: a second one, for P-256, would cost as much and is for servers without X25519, which
      // ask again.
      case .client: [GNUTLS_CLIENT, GNUTLS_NONBLOCK, GNUTLS_KEY_SHARE_TOP]
      case .server: [GNUTLS_SERVER, GNUTLS_NONBLOCK, GNUTLS_NO_AUTO_SEND_TICKET]
      }
    var session: gnutls_session_t?
    try GnuTLSFailure.check(gnutls_init(&session, flags.reduce(0) { $0 | $1.rawValue }))
    guard let session else { throw GnuTLSFailure(code: GNUTLS_E_MEMORY_ERROR) }
    handle = session
    self.role = role
    do {
      verification = try TLSSession.configure(session, role, applicationProtocol)
    } catch {
      gnutls_deinit(session)
      throw error
    }
    connectTransport()
  }

  deinit {
    gnutls_deinit(handle)
  }

  private static func configure(
    _ session: gnutls_session_t,
    _ role: Role,
    _ applicationProtocol: String
  ) throws(GnuTLSFailure) -> PeerVerification? {
    // Where a client offers protocols and ours is not among them, it must not go on (RFC 7301 §3.2).
    let flags = CUnsignedInt(GNUTLS_ALPN_MANDATORY.rawValue)
    let result = Array(applicationProtocol.utf8).withDatum {
      gnutls_alpn_set_protocols(session, &$0, 1, flags)
    }
    try GnuTLSFailure.check(result)
    switch role {
    case .client(let credentials, let ticket):
      // A ticket that GnuTLS does not take costs a full handshake, no more.
      if let ticket { gnutls_session_set_data(session, ticket, ticket.count) }
      return try credentials.configure(session, priorities: .tcp)
    case .server(let credentials):
      return try credentials.configure(session, priorities: .tcp)
    }
  }
}

// MARK: Handshake

extension TLSSession {
  /// Takes the handshake as far as what was received allows.
  ///
  /// - Returns: whether it is complete.
  func handshake() throws(TLSError) -> Bool {
    while true {
      isStarved = false
      let result = gnutls_handshake(handle)
      if result >= 0 { break }
      guard isPassing(result) else { throw fail(result) }
      if isStarved { return false }
    }
    if case .server = role { owesTicket = true }
    return true
  }

  /// Writes the ticket that is owed, if one is; `write` does so by itself.
  ///
  /// One is enough, for a client that resumes by it gets the next. It goes with the first answer, because
  /// alone it would cost both ends a system call and a wake-up.
  func sendTicket() {
    guard owesTicket else { return }
    owesTicket = false
    // Without a ticket the next handshake is a full one, no more.
    gnutls_session_ticket_send(handle, 1, 0)
  }

  /// Whether the session goes on from an earlier one, by a ticket.
  var isResumed: Bool { gnutls_session_is_resumed(handle) != 0 }

  /// What the session needs to be resumed later, once: the newest ticket that came, and the secret for it.
  func takeTicket() -> [UInt8]? {
    let flags = gnutls_session_get_flags(handle)
    guard !hasGivenTicket, flags & CUnsignedInt(GNUTLS_SFLAGS_SESSION_TICKET.rawValue) != 0 else {
      return nil
    }
    hasGivenTicket = true
    var datum = gnutls_datum_t()
    guard gnutls_session_get_data2(handle, &datum) >= 0 else { return nil }
    defer {
      gnutls_memset(datum.data, 0, Int(datum.size))
      cgnutls_free(datum.data)
    }
    return [UInt8](datum)
  }
}

// MARK: Records

extension TLSSession {
  /// Takes ciphertext from the peer.
  func receive(_ bytes: ByteBuffer) {
    guard bytes.readableBytes > 0 else { return }
    receivedBytes += bytes.readableBytes
    received.append(bytes)
  }

  /// At least as many bytes as can be read now.
  var readableBytesEstimate: Int {
    receivedBytes + heldBytes + gnutls_record_check_pending(handle)
  }

  /// Decrypts into the free space of `buffer`, without growing it.
  func read(into buffer: inout ByteBuffer) -> ReadResult {
    while buffer.writableBytes > 0 {
      isStarved = false
      var result = 0
      buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 0) { space in
        result = gnutls_record_recv(handle, space.baseAddress, space.count)
        return max(result, 0)
      }
      if result > 0 {
        heldBytes = 0
      } else if result == 0 {
        return .ended
      } else if !isPassing(CInt(result)) {
        return .failed(fail(CInt(result)))
      } else if isStarved {
        return .starved
      }
    }
    return .full
  }

  /// Encrypts `bytes` behind what waits to be taken already.
  func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    sendTicket()
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(TLSSession.recordSize))
      let result = gnutls_record_send(handle, piece.baseAddress, piece.count)
      // Pushes go to memory and never wait, so that only an interruption is worth another try.
      if result == Int(GNUTLS_E_INTERRUPTED) { continue }
      guard result > 0 else { throw fail(CInt(result)) }
      rest = rest.dropFirst(result)
    }
  }

  /// Makes room for the records of this much plaintext, so that the output need not grow step by step.
  func reserveOutput(forPlaintext count: Int) {
    let records = count / TLSSession.recordSize + 1
    let ticket = owesTicket ? TLSSession.ticketSize : 0
    let ciphertext = count + records * TLSSession.recordOverhead + ticket
    if output.capacity == 0 {
      output = ByteBufferAllocator().buffer(capacity: ciphertext)
    } else {
      output.reserveCapacity(minimumWritableBytes: ciphertext)
    }
  }

  /// Writes `close_notify`: nothing follows it (RFC 8446 §6.1).
  func endOutput() throws(TLSError) {
    let result = gnutls_bye(handle, GNUTLS_SHUT_WR)
    guard result >= 0 else { throw fail(result) }
  }

  /// The ciphertext for the peer; nil where there is none.
  func takeOutput() -> ByteBuffer? {
    guard output.readableBytes > 0 else { return nil }
    defer { output = ByteBuffer() }
    return output
  }
}

// MARK: Errors

extension TLSSession {
  /// Whether a result means that the same call is to be made again, now or with more bytes.
  private func isPassing(_ result: CInt) -> Bool {
    result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED || result == GNUTLS_E_WARNING_ALERT_RECEIVED
  }

  /// Puts the right alert into the output and says what went wrong.
  private func fail(_ code: CInt) -> TLSError {
    let error = TLSError(code, handle, refusal: verification?.refusal)
    if error.kind != .alertReceived { gnutls_alert_send_appropriate(handle, code) }
    return error
  }
}

extension TLSError {
  fileprivate init(_ code: CInt, _ session: gnutls_session_t, refusal: CertificateRefusal?) {
    switch code {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
      let name = gnutls_alert_get_name(gnutls_alert_get(session)).map { String(cString: $0) }
      self.init(kind: .alertReceived, message: "the peer sent the alert \"\(name ?? "unknown")\"")
    case GNUTLS_E_CERTIFICATE_REQUIRED, GNUTLS_E_NO_CERTIFICATE_FOUND:
      self.init(kind: .certificateRefused, message: "the client showed no certificate", fault: .missing)
    case GNUTLS_E_NO_APPLICATION_PROTOCOL:
      self.init(
        kind: .noApplicationProtocol,
        message: "the peer speaks none of our application protocols (ALPN)"
      )
    case GNUTLS_E_MEMORY_ERROR, GNUTLS_E_INTERNAL_ERROR:
      self.init(kind: .failed, message: "TLS failed: \(GnuTLSFailure(code: code))")
    default:
      self.init(
        kind: refusal == nil ? .protocolViolation : .certificateRefused,
        message: refusal?.reason ?? "the peer broke TLS: \(GnuTLSFailure(code: code))",
        fault: refusal?.fault
      )
    }
  }
}

// MARK: What GnuTLS calls

extension TLSSession {
  /// Gives GnuTLS our buffers in place of a socket.
  ///
  /// The session holds `self` without owning it, and `self` owns the session: no callback can come later.
  private func connectTransport() {
    gnutls_transport_set_ptr(handle, Unmanaged.passUnretained(self).toOpaque())
    gnutls_transport_set_pull_function(handle) { owner, space, count in
      guard let owner, let space else { return -1 }
      return Unmanaged<TLSSession>.fromOpaque(owner).takeUnretainedValue().pull(space, count)
    }
    gnutls_transport_set_pull_timeout_function(handle) { owner, _ in
      guard let owner else { return -1 }
      return Unmanaged<TLSSession>.fromOpaque(owner).takeUnretainedValue().receivedBytes > 0 ? 1 : 0
    }
    gnutls_transport_set_push_function(handle) { owner, bytes, count in
      guard let owner, let bytes else { return -1 }
      return Unmanaged<TLSSession>.fromOpaque(owner).takeUnretainedValue().push(bytes, count)
    }
  }

  private func pull(_ space: UnsafeMutableRawPointer, _ count: Int) -> Int {
    guard receivedBytes > 0 else {
      isStarved = true
      gnutls_transport_set_errno(handle, EAGAIN)
      return -1
    }
    let count = min(count, received[0].readableBytes)
    received[0].readWithUnsafeReadableBytes { bytes in
      UnsafeMutableRawBufferPointer(start: space, count: count).copyMemory(
        from: .init(rebasing: bytes.prefix(count))
      )
      return count
    }
    if received[0].readableBytes == 0 { received.removeFirst() }
    receivedBytes -= count
    heldBytes += count
    return count
  }

  private func push(_ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    output.writeBytes(UnsafeRawBufferPointer(start: bytes, count: count))
  }
}
