import CGnuTLS
import MagicalaneCore

/// What is wrong with a peer's certificate, for those who count.
enum CertificateFault: Sendable {
  case untrusted, nameMismatch, expired, pinMismatch, missing, invalid
}

/// Why a peer's certificate was refused.
struct CertificateRefusal: Sendable {
  /// Where there are several, the first that helps.
  var fault: CertificateFault
  /// All of them in one line.
  var reason: String
}

/// The check of the peer's certificate in one session, and what it found.
///
/// GnuTLS calls it while the handshake runs, on the session's thread, so that a refused peer gets an alert
/// and never a byte of ours. It uses the session's `gnutls_db_set_ptr` slot, for `gnutls_session_set_ptr` is
/// ngtcp2's. The session does not hold it: whoever owns the session must keep it for as long.
final class PeerVerification {
  /// What is asked of the peer.
  enum Rule: Sendable {
    /// A chain to an authority in the credentials, valid now, for a server of this name or address.
    case server(Host)
    /// A chain to an authority in the credentials, valid now, for clients.
    case client
    /// One of these keys, whatever the certificate around it says.
    case pins(Set<CertificatePin>)
  }

  /// Why the peer was refused; nil where it was not.
  private(set) var refusal: CertificateRefusal?
  private let rule: Rule

  init(_ rule: Rule) {
    self.rule = rule
  }

  /// Makes the session ask this object about its peer.
  func attach(to session: gnutls_session_t) {
    gnutls_db_set_ptr(session, Unmanaged.passUnretained(self).toOpaque())
    gnutls_session_set_verify_function(session) { session in
      guard let session, let owner = gnutls_db_get_ptr(session) else { return GNUTLS_E_INTERNAL_ERROR }
      // The slot holds what `attach` put there, which lives for as long as the session.
      return Unmanaged<PeerVerification>.fromOpaque(owner).takeUnretainedValue().verify(session)
    }
  }

  private func verify(_ session: gnutls_session_t) -> CInt {
    refusal =
      switch rule {
      case .server(let host): refusalOfChain(session, host: host)
      case .client: refusalOfChain(session, host: nil)
      case .pins(let pins): refusalOfKey(session, pins)
      }
    return refusal == nil ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR
  }

  private func refusalOfKey(_ session: gnutls_session_t, _ pins: Set<CertificatePin>) -> CertificateRefusal? {
    guard let certificate = peerCertificate(session), let pin = CertificatePin(certificate: certificate)
    else {
      return CertificateRefusal(fault: .missing, reason: "the server showed no certificate that can be read")
    }
    guard !pins.contains(pin) else { return nil }
    return CertificateRefusal(
      fault: .pinMismatch,
      reason: "the server's key has the pin \(pin), which is not among those in pin_sha256"
    )
  }

  private func refusalOfChain(_ session: gnutls_session_t, host: Host?) -> CertificateRefusal? {
    guard peerCertificate(session) != nil else {
      return CertificateRefusal(fault: .missing, reason: "the peer showed no certificate")
    }
    var status: CUnsignedInt = 0
    let result = chainStatus(session, host: host, &status)
    guard result >= 0 else {
      let failure = GnuTLSFailure(code: result)
      return CertificateRefusal(fault: .invalid, reason: "the certificate cannot be checked: \(failure)")
    }
    return status == 0 ? nil : explain(gnutls_certificate_status_t(rawValue: status), host: host)
  }

  private func chainStatus(_ session: gnutls_session_t, host: Host?, _ status: inout CUnsignedInt) -> CInt {
    let purpose = Array((host == nil ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER).utf8) + [0]
    guard let host else {
      return verifyPeers(session, [(GNUTLS_DT_KEY_PURPOSE_OID, purpose, 0)], &status)
    }
    let owner: (gnutls_vdata_types_t, [UInt8], Int) =
      switch host {
      case .name(let name):
        // A certificate never ends its names with the root's dot.
        (GNUTLS_DT_DNS_HOSTNAME, Array((name.hasSuffix(".") ? name.dropLast() : name[...]).utf8) + [0], 0)
      case .address(let address):
        (GNUTLS_DT_IP_ADDRESS, address.bytes, address.bytes.count)
      }
    return verifyPeers(session, [owner, (GNUTLS_DT_KEY_PURPOSE_OID, purpose, 0)], &status)
  }

  /// - Parameter wanted: kind, bytes, and their count where they do not end with a zero byte.
  private func verifyPeers(
    _ session: gnutls_session_t,
    _ wanted: [(gnutls_vdata_types_t, [UInt8], Int)],
    _ status: inout CUnsignedInt
  ) -> CInt {
    // Copied to memory that stays put while GnuTLS reads it; freed right after.
    let copies = wanted.map { UnsafeMutableBufferPointer<UInt8>.copying($0.1) }
    defer { copies.forEach { $0.deallocate() } }
    var data = zip(wanted, copies).map { wanted, copy in
      gnutls_typed_vdata_st(type: wanted.0, data: copy.baseAddress, size: CUnsignedInt(wanted.2))
    }
    return gnutls_certificate_verify_peers(session, &data, CUnsignedInt(data.count), &status)
  }

  private func peerCertificate(_ session: gnutls_session_t) -> gnutls_datum_t? {
    var count: CUnsignedInt = 0
    // The session owns the list.
    guard let list = gnutls_certificate_get_peers(session, &count), count > 0 else { return nil }
    return list[0]
  }

  private func explain(_ status: gnutls_certificate_status_t, host: Host?) -> CertificateRefusal {
    let causes: [(gnutls_certificate_status_t, CertificateFault, String)] = [
      (GNUTLS_CERT_EXPIRED, .expired, "it has expired"),
      (GNUTLS_CERT_NOT_ACTIVATED, .expired, "it is not valid yet"),
      (
        GNUTLS_CERT_UNEXPECTED_OWNER, .nameMismatch,
        host.map { "it is not for \($0)" } ?? "it is for somebody else"
      ),
      (GNUTLS_CERT_SIGNER_NOT_FOUND, .untrusted, "no trusted authority signed it"),
      (GNUTLS_CERT_SIGNER_NOT_CA, .untrusted, "its issuer is no certificate authority"),
      (GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, .invalid, "its issuer may not sign for this name"),
      (
        GNUTLS_CERT_PURPOSE_MISMATCH, .nameMismatch,
        host == nil ? "it is not for TLS clients" : "it is not for TLS servers"
      ),
      (GNUTLS_CERT_INSECURE_ALGORITHM, .invalid, "its signature uses a broken algorithm"),
      (GNUTLS_CERT_SIGNATURE_FAILURE, .invalid, "its signature is wrong"),
      (GNUTLS_CERT_REVOKED, .invalid, "it is revoked"),
      (GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS, .invalid, "it has a critical extension that is not known here"),
    ]
    let found = causes.filter { status.rawValue & $0.0.rawValue != 0 }
    let reasons = found.isEmpty ? "it is not valid" : found.map(\.2).joined(separator: ", ")
    return CertificateRefusal(
      fault: found.first?.1 ?? .invalid,
      reason: "the \(host == nil ? "client" : "server")'s certificate was refused: \(reasons)"
    )
  }
}

extension UnsafeMutableBufferPointer<UInt8> {
  /// The caller deallocates it.
  fileprivate static func copying(_ bytes: [UInt8]) -> Self {
    let copy = allocate(capacity: bytes.count)
    _ = copy.initialize(from: bytes)
    return copy
  }
}
