import CGnuTLS

/// What GnuTLS returned where it could not do what it was asked.
struct GnuTLSFailure: Error, CustomStringConvertible {
  /// A `GNUTLS_E_…` value.
  var code: CInt

  var description: String { String(cString: gnutls_strerror(code)) }

  /// Passes a result on, or throws it where it is an error.
  @discardableResult
  static func check(_ result: CInt) throws(GnuTLSFailure) -> CInt {
    guard result >= 0 else { throw GnuTLSFailure(code: result) }
    return result
  }
}

/// Which protocol versions and ciphers a session offers and takes, in order.
///
/// GnuTLS only reads it once it is made and counts its users itself, so any number of sessions on any
/// threads share one.
final class TLSPriorities: Sendable {
  /// For TLS over TCP. AES-128-GCM comes first because it is the fastest by far where the CPU has AES.
  static let tcp = TLSPriorities(tls13)
  /// For TLS inside QUIC, which has no middleboxes to please (RFC 9001 §8.4).
  static let quic = TLSPriorities(tls13 + ":%DISABLE_TLS13_COMPAT_MODE")

  private static let tls13 =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"
    + ":-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+GROUP-SECP521R1:%SERVER_PRECEDENCE"

  /// Owned; nil where GnuTLS did not take the text, which shows when a session is configured.
  // Unsafe: the pointer does not change, and GnuTLS does not change what it points to.
  private nonisolated(unsafe) let handle: gnutls_priority_t?

  private init(_ text: String) {
    var handle: gnutls_priority_t?
    gnutls_priority_init2(&handle, text, nil, 0)
    self.handle = handle
  }

  deinit {
    if let handle { gnutls_priority_deinit(handle) }
  }

  func apply(to session: gnutls_session_t) throws(GnuTLSFailure) {
    try GnuTLSFailure.check(gnutls_priority_set(session, handle))
  }
}

/// One `gnutls_certificate_credentials_t`: certificates, keys and trusted authorities.
///
/// It is filled by the thread that makes it and only read afterwards, which GnuTLS allows to any number of
/// sessions on any threads. It must outlive the sessions that it is set on.
final class CertificateCredentials: Sendable {
  /// Owned, freed in `deinit`.
  // Unsafe: nothing writes to it after its owner's initializer.
  nonisolated(unsafe) let handle: gnutls_certificate_credentials_t

  init() throws(GnuTLSFailure) {
    var handle: gnutls_certificate_credentials_t?
    try GnuTLSFailure.check(gnutls_certificate_allocate_credentials(&handle))
    guard let handle else { throw GnuTLSFailure(code: GNUTLS_E_MEMORY_ERROR) }
    self.handle = handle
  }

  deinit {
    gnutls_certificate_free_credentials(handle)
  }
}

extension [UInt8] {
  /// Calls `body` with the bytes as GnuTLS takes them; they are borrowed for the call.
  func withDatum<Result>(_ body: (inout gnutls_datum_t) -> Result) -> Result {
    withUnsafeBufferPointer { bytes in
      // GnuTLS's type lacks `const`; the functions that we hand a datum to only read it.
      var datum = gnutls_datum_t(
        data: UnsafeMutablePointer(mutating: bytes.baseAddress),
        size: CUnsignedInt(bytes.count)
      )
      return body(&datum)
    }
  }

  /// Copies what a datum holds.
  init(_ datum: gnutls_datum_t) {
    self.init(UnsafeBufferPointer(start: datum.data, count: Int(datum.size)))
  }
}
