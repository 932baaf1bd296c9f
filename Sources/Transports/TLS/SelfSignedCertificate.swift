import CGnuTLS
import MagicalaneCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A certificate that no authority signed, with its key: enough where the other end pins it or trusts it by
/// name. It serves at either end of TLS.
public struct SelfSignedCertificate: Sendable {
  /// The certificate: ECDSA on P-256, valid for the hosts that it was made for.
  public let certificatePEM: String
  /// Its private key, PKCS #8. A secret.
  public let keyPEM: String
  /// What the other end puts under `pin_sha256:`, base64.
  public let pinSHA256: String

  /// Makes a new key and a certificate for it.
  ///
  /// - Parameters:
  ///   - hosts: names and addresses of the server, the first one its common name; at least one.
  ///   - validity: from an hour ago, to allow for clocks that are behind, until this long from now.
  /// - Throws: `PluginError` where a host is neither a name nor an address, or GnuTLS fails.
  public static func make(
    hosts: [String],
    validity: Duration = .seconds(825 * 86_400)
  ) throws -> SelfSignedCertificate {
    let parsed = try hosts.map { text in
      // A certificate may name every host of a domain (RFC 6125 §6.4.3).
      guard let host = Host(text.hasPrefix("*.") ? String(text.dropFirst(2)) : text) else {
        throw PluginError("\"\(text)\" is neither a host name nor an address")
      }
      return text.hasPrefix("*.") ? Host.name(text) : host
    }
    guard let first = parsed.first else { throw PluginError("a certificate needs at least one host") }
    do {
      let key = try PrivateKey()
      let certificate = try Certificate(commonName: first.description)
      try certificate.setSubjects(parsed)
      try certificate.setValidity(validity)
      try certificate.sign(with: key)
      guard let pin = certificate.pin else { throw GnuTLSFailure(code: GNUTLS_E_INTERNAL_ERROR) }
      return SelfSignedCertificate(
        certificatePEM: try certificate.pem(),
        keyPEM: try key.pem(),
        pinSHA256: pin.description
      )
    } catch let failure as GnuTLSFailure {
      throw PluginError("the certificate could not be made: \(failure)")
    }
  }
}

extension SelfSignedCertificate {
  /// Writes `cert.pem` and `key.pem` into a directory, which is made where it does not exist.
  ///
  /// The key can be read by its owner alone, from its first byte on.
  ///
  /// - Parameter overwrite: whether files of these names may be replaced.
  /// - Returns: the paths of both files.
  /// - Throws: `PluginError` that names the file and the reason.
  public func write(to directory: String, overwrite: Bool = false) throws -> (
    certificate: String, key: String
  ) {
    let certificate = "\(directory)/cert.pem"
    let key = "\(directory)/key.pem"
    try makeDirectory(directory)
    if !overwrite,
      let existing = [certificate, key].first(where: { (path: String) in access(path, F_OK) == 0 })
    {
      throw PluginError("\(existing) exists already and is not overwritten")
    }
    try writeFile(keyPEM, to: key, mode: 0o600, overwrite: overwrite)
    try writeFile(certificatePEM, to: certificate, mode: 0o644, overwrite: overwrite)
    return (certificate, key)
  }
}

/// Makes the directory and those above it where they do not exist.
private func makeDirectory(_ path: String) throws {
  let parts = path.split(separator: "/")
  let root = path.hasPrefix("/") ? "/" : ""
  for count in parts.indices.map({ $0 + 1 }) {
    let part = root + parts.prefix(count).joined(separator: "/")
    if mkdir(part, 0o755) != 0, errno != EEXIST {
      throw PluginError("\(part) cannot be made: \(String(cString: strerror(errno)))")
    }
  }
}

private func writeFile(_ text: String, to path: String, mode: mode_t, overwrite: Bool) throws {
  // A file that is replaced would keep its old mode.
  if overwrite { unlink(path) }
  let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
  guard descriptor >= 0 else {
    throw PluginError("\(path) cannot be written: \(String(cString: strerror(errno)))")
  }
  defer { close(descriptor) }
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else {
      throw PluginError("\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
    rest = rest.dropFirst(count)
  }
}

/// One `gnutls_x509_privkey_t` on P-256.
private final class PrivateKey {
  /// Owned, freed in `deinit`.
  let handle: gnutls_x509_privkey_t

  init() throws(GnuTLSFailure) {
    var handle: gnutls_x509_privkey_t?
    try GnuTLSFailure.check(gnutls_x509_privkey_init(&handle))
    guard let handle else { throw GnuTLSFailure(code: GNUTLS_E_MEMORY_ERROR) }
    self.handle = handle
    // GNUTLS_CURVE_TO_BITS: a macro that marks a number of bits as a curve's number.
    let p256 = CUnsignedInt(1) << 31 | CUnsignedInt(GNUTLS_ECC_CURVE_SECP256R1.rawValue)
    try GnuTLSFailure.check(gnutls_x509_privkey_generate(handle, GNUTLS_PK_ECDSA, p256, 0))
  }

  deinit {
    gnutls_x509_privkey_deinit(handle)
  }

  func pem() throws(GnuTLSFailure) -> String {
    try text { gnutls_x509_privkey_export2_pkcs8(handle, GNUTLS_X509_FMT_PEM, nil, 0, &$0) }
  }
}

/// One `gnutls_x509_crt_t` that is being filled in.
private final class Certificate {
  /// Owned, freed in `deinit`.
  private let handle: gnutls_x509_crt_t

  init(commonName: String) throws(GnuTLSFailure) {
    var handle: gnutls_x509_crt_t?
    try GnuTLSFailure.check(gnutls_x509_crt_init(&handle))
    guard let handle else { throw GnuTLSFailure(code: GNUTLS_E_MEMORY_ERROR) }
    self.handle = handle
    try GnuTLSFailure.check(gnutls_x509_crt_set_version(handle, 3))
    // RFC 5280 §A.1 limits a common name to 64 characters; the full name is among the subjects.
    let name = String(commonName.prefix(64))
    try GnuTLSFailure.check(
      gnutls_x509_crt_set_dn_by_oid(
        handle,
        GNUTLS_OID_X520_COMMON_NAME,
        0,
        name,
        CUnsignedInt(name.utf8.count)
      )
    )
    var serial = [UInt8](repeating: 0, count: 16)
    try GnuTLSFailure.check(gnutls_rnd(GNUTLS_RND_NONCE, &serial, serial.count))
    // Positive and of full length (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40
    try GnuTLSFailure.check(gnutls_x509_crt_set_serial(handle, serial, serial.count))
  }

  deinit {
    gnutls_x509_crt_deinit(handle)
  }

  func setSubjects(_ hosts: [Host]) throws(GnuTLSFailure) {
    for host in hosts {
      let (kind, bytes) =
        switch host {
        case .name(let name): (GNUTLS_SAN_DNSNAME, Array(name.utf8))
        case .address(let address): (GNUTLS_SAN_IPADDRESS, address.bytes)
        }
      try GnuTLSFailure.check(
        gnutls_x509_crt_set_subject_alt_name(
          handle,
          kind,
          bytes,
          CUnsignedInt(bytes.count),
          CUnsignedInt(GNUTLS_FSAN_APPEND)
        )
      )
    }
  }

  func setValidity(_ validity: Duration) throws(GnuTLSFailure) {
    let now = time(nil)
    try GnuTLSFailure.check(gnutls_x509_crt_set_activation_time(handle, now - 3600))
    try GnuTLSFailure.check(
      gnutls_x509_crt_set_expiration_time(handle, now + Int(validity.components.seconds))
    )
  }

  func sign(with key: PrivateKey) throws(GnuTLSFailure) {
    try GnuTLSFailure.check(gnutls_x509_crt_set_key(handle, key.handle))
    try GnuTLSFailure.check(gnutls_x509_crt_set_basic_constraints(handle, 0, -1))
    try GnuTLSFailure.check(gnutls_x509_crt_set_key_usage(handle, CUnsignedInt(GNUTLS_KEY_DIGITAL_SIGNATURE)))
    for purpose in [GNUTLS_KP_TLS_WWW_SERVER, GNUTLS_KP_TLS_WWW_CLIENT] {
      try GnuTLSFailure.check(gnutls_x509_crt_set_key_purpose_oid(handle, purpose, 0))
    }
    try GnuTLSFailure.check(gnutls_x509_crt_sign2(handle, handle, key.handle, GNUTLS_DIG_SHA256, 0))
  }

  var pin: CertificatePin? { CertificatePin(handle) }

  func pem() throws(GnuTLSFailure) -> String {
    try text { gnutls_x509_crt_export2(handle, GNUTLS_X509_FMT_PEM, &$0) }
  }
}

/// Copies and frees the text that `export` makes.
private func text(_ export: (inout gnutls_datum_t) -> CInt) throws(GnuTLSFailure) -> String {
  var datum = gnutls_datum_t()
  try GnuTLSFailure.check(export(&datum))
  defer {
    gnutls_memset(datum.data, 0, Int(datum.size))
    cgnutls_free(datum.data)
  }
  return String(decoding: [UInt8](datum), as: UTF8.self)
}
