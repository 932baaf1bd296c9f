import CGnuTLS
import MagicalaneCore

/// Who a server is, which clients it takes, and the key under which it issues session tickets.
///
/// Made once from the options. GnuTLS only reads it from then on, so sessions on every loop share it; each
/// must end before it does.
final class TLSServerCredentials: Sendable {
  private let credentials: CertificateCredentials
  private let ticketKey: SessionTicketKey
  private let verifiesClients: Bool

  /// - Parameter directory: where relative paths start.
  /// - Throws: `PluginError`, with a path that starts with `tls`.
  init(options: TLSServerOptions, directory: String) throws {
    credentials = try CertificateCredentials()
    ticketKey = try SessionTicketKey()
    verifiesClients = options.clientCa != nil
    try credentials.setIdentity(certificate: options.certificate, key: options.key, directory: directory)
    if let ca = options.clientCa {
      try credentials.trust(ca, directory: directory, at: ["tls", "client_ca"])
    }
  }

  /// Sets credentials, priorities, session tickets and the check of clients on a new server session.
  ///
  /// - Returns: the check of the client, which the session's owner keeps for as long as the session, and
  ///   asks for the reason when a handshake fails; nil where clients need no certificate.
  func configure(_ session: gnutls_session_t, priorities: TLSPriorities) throws(GnuTLSFailure)
    -> PeerVerification?
  {
    try priorities.apply(to: session)
    try GnuTLSFailure.check(
      gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials.handle))
    )
    try ticketKey.enable(on: session)
    guard verifiesClients else { return nil }
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE)
    let verification = PeerVerification(.client)
    verification.attach(to: session)
    return verification
  }
}

/// The secret from which GnuTLS derives the keys of session tickets; it changes those by itself every few
/// hours.
private final class SessionTicketKey: Sendable {
  /// Owned; wiped and freed in `deinit`.
  // Unsafe: nothing writes to it between initializer and `deinit`; each session copies it.
  private nonisolated(unsafe) let key: gnutls_datum_t

  init() throws(GnuTLSFailure) {
    var key = gnutls_datum_t()
    try GnuTLSFailure.check(gnutls_session_ticket_key_generate(&key))
    self.key = key
  }

  deinit {
    gnutls_memset(key.data, 0, Int(key.size))
    cgnutls_free(key.data)
  }

  func enable(on session: gnutls_session_t) throws(GnuTLSFailure) {
    try withUnsafePointer(to: key) { key throws(GnuTLSFailure) in
      _ = try GnuTLSFailure.check(gnutls_session_ticket_enable_server(session, key))
    }
  }
}
