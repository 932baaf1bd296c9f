/// Why a TLS session failed.
struct TLSError: Error, Sendable {
  /// The causes that logs and metrics tell apart.
  enum Kind: String, Sendable, CaseIterable {
    /// We did not take the peer's certificate.
    case certificateRefused
    /// The peer ended the session with an alert.
    case alertReceived
    /// The peer sent what is not TLS 1.3.
    case protocolViolation
    /// The connection ended without `close_notify`: bytes may be missing.
    case truncated
    /// Both ends keep to the protocol but share no application protocol (ALPN).
    case noApplicationProtocol
    /// Anything else, such as lack of memory.
    case failed
  }

  var kind: Kind
  /// One line for a log.
  var message: String
  /// What is wrong with a certificate that was refused.
  var fault: CertificateFault?
}

extension TLSError: CustomStringConvertible {
  var description: String { message }
}
