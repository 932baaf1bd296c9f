import CGnuTLS
import MagicalaneCore

/// The SHA-256 of a public key's SubjectPublicKeyInfo, as RFC 7469 §2.4 pins it.
struct CertificatePin: Hashable, Sendable {
  var digest: [UInt8]

  /// Reads 64 hex digits (colons allowed) or 44 characters of base64, with or without the `sha256/` that curl
  /// and browsers write in front.
  init?(_ text: String) {
    let bare = [UInt8]((text.hasPrefix("sha256/") ? text.dropFirst(7) : text[...]).utf8)
    guard let digest = CertificatePin.hex(bare) ?? CertificatePin.base64(bare), digest.count == 32 else {
      return nil
    }
    self.digest = digest
  }

  /// The pin of a certificate in DER; nil where it does not parse.
  init?(certificate: gnutls_datum_t) {
    var certificate = certificate
    var parsed: gnutls_x509_crt_t?
    guard gnutls_x509_crt_init(&parsed) >= 0, let parsed else { return nil }
    defer { gnutls_x509_crt_deinit(parsed) }
    guard gnutls_x509_crt_import(parsed, &certificate, GNUTLS_X509_FMT_DER) >= 0 else { return nil }
    self.init(parsed)
  }

  /// The pin of a certificate, which stays the caller's.
  init?(_ certificate: gnutls_x509_crt_t) {
    var digest = [UInt8](repeating: 0, count: 32)
    var size = digest.count
    let flags = CUnsignedInt(GNUTLS_KEYID_USE_SHA256.rawValue)
    guard gnutls_x509_crt_get_key_id(certificate, flags, &digest, &size) >= 0, size == 32 else { return nil }
    self.digest = digest
  }

  private static func hex(_ text: [UInt8]) -> [UInt8]? {
    let digits = text.filter { $0 != UInt8(ascii: ":") }
    guard digits.count == 64 else { return nil }
    let values = digits.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    guard values.count == 64 else { return nil }
    return stride(from: 0, to: 64, by: 2).map { UInt8(values[$0] << 4 | values[$0 + 1]) }
  }

  private static func base64(_ text: [UInt8]) -> [UInt8]? {
    var result = gnutls_datum_t()
    guard text.withDatum({ gnutls_base64_decode2(&$0, &result) }) >= 0 else { return nil }
    defer { cgnutls_free(result.data) }
    return [UInt8](result)
  }
}

extension CertificatePin: CustomStringConvertible {
  /// Base64, as the config takes it.
  var description: String {
    var result = gnutls_datum_t()
    guard digest.withDatum({ gnutls_base64_encode2(&$0, &result) }) >= 0 else { return "" }
    defer { cgnutls_free(result.data) }
    return String(decoding: [UInt8](result), as: UTF8.self)
  }
}
