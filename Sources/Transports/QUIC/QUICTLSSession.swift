import CGnuTLS
import CNgtcp2

/// The TLS side of one QUIC connection (RFC 9001): a GnuTLS session that ngtcp2 drives.
final class QUICTLSSession {
  /// Whose credentials the session uses, and with them which side it is.
  enum Credentials {
    case client(TLSClientCredentials)
    case server(TLSServerCredentials)
  }

  /// Owned, freed in `deinit`.
  let handle: gnutls_session_t
  /// Must outlive the session.
  private let credentials: Credentials
  /// GnuTLS calls it during the handshake, and does not hold it.
  private let verification: PeerVerification?

  /// - Parameters:
  ///   - anchor: the connection's; must outlive the session.
  ///   - ticket: a client's, of an earlier session with the same server.
  init(_ credentials: Credentials, anchor: UnsafeMutablePointer<shim_anchor>, ticket: [UInt8]?)
    throws(GnuTLSFailure)
  {
    self.credentials = credentials
    let flags =
      switch credentials {
      case .client: GNUTLS_CLIENT.rawValue | GNUTLS_NO_END_OF_EARLY_DATA.rawValue
      case .server:
        GNUTLS_SERVER.rawValue | GNUTLS_NO_AUTO_SEND_TICKET.rawValue | GNUTLS_NO_END_OF_EARLY_DATA.rawValue
      }
    var session: gnutls_session_t?
    try GnuTLSFailure.check(gnutls_init(&session, flags))
    guard let session else { throw GnuTLSFailure(code: GNUTLS_E_MEMORY_ERROR) }
    handle = session
    do {
      verification = try QUICTLSSession.configure(session, credentials)
      try QUICTLSSession.offerProtocol(session)
      if let ticket {
        // A ticket that GnuTLS does not take costs a full handshake, no more.
        _ = ticket.withUnsafeBytes { gnutls_session_set_data(session, $0.baseAddress, $0.count) }
      }
    } catch {
      gnutls_deinit(session)
      throw error
    }
    // The first member of the anchor is what ngtcp2 expects in this slot.
    gnutls_session_set_ptr(session, anchor)
  }

  deinit {
    gnutls_deinit(handle)
  }

  private static func configure(
    _ session: gnutls_session_t,
    _ credentials: Credentials
  ) throws(GnuTLSFailure) -> PeerVerification? {
    let verification: PeerVerification?
    let result: CInt
    switch credentials {
    case .client(let client):
      verification = try client.configure(session, priorities: .quic)
      result = ngtcp2_crypto_gnutls_configure_client_session(session)
    case .server(let server):
      verification = try server.configure(session, priorities: .quic)
      result = ngtcp2_crypto_gnutls_configure_server_session(session)
    }
    guard result == 0 else { throw GnuTLSFailure(code: GNUTLS_E_INTERNAL_ERROR) }
    return verification
  }

  private static func offerProtocol(_ session: gnutls_session_t) throws(GnuTLSFailure) {
    let result = Array(QUICSettings.applicationProtocol.utf8).withDatum { name in
      gnutls_alpn_set_protocols(session, &name, 1, GNUTLS_ALPN_MANDATORY.rawValue)
    }
    try GnuTLSFailure.check(result)
  }

  /// Whether both ends agreed on our application protocol; meaningful once the handshake is complete.
  var hasApplicationProtocol: Bool {
    // The session owns the name.
    var name = gnutls_datum_t()
    guard gnutls_alpn_get_selected_protocol(handle, &name) == 0 else { return false }
    return [UInt8](name).elementsEqual(QUICSettings.applicationProtocol.utf8)
  }

  /// Why the peer's certificate was refused, where it was.
  var refusal: CertificateRefusal? { verification?.refusal }

  /// Queues a session ticket for the client (RFC 8446 §4.6.1).
  func sendTicket() {
    gnutls_session_ticket_send(handle, 1, 0)
  }

  /// What a client needs to resume this session; nil before a ticket came.
  func ticket() -> [UInt8]? {
    guard gnutls_session_get_flags(handle) & GNUTLS_SFLAGS_SESSION_TICKET.rawValue != 0 else { return nil }
    // GnuTLS allocates the copy for us.
    var data = gnutls_datum_t()
    guard gnutls_session_get_data2(handle, &data) == 0 else { return nil }
    defer { cgnutls_free(data.data) }
    return [UInt8](data)
  }

  /// Whether the handshake was a resumption.
  var isResumed: Bool { gnutls_session_is_resumed(handle) != 0 }
}
