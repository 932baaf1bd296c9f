import CGnuTLS
import MagicalaneCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The contents of a file that the config names.
struct PEMFile {
  /// A key with its chain is a few kilobytes, the largest bundle of authorities some hundred.
  private static let sizeLimit = 16 << 20

  /// As it stands in the config.
  var path: String
  /// Which key of the config entry names it.
  var key: [String]
  var bytes: [UInt8]

  /// Reads the whole file.
  ///
  /// - Parameter directory: where a relative path starts.
  /// - Throws: `PluginError` that says why it cannot be read.
  init(_ path: FilePath, in directory: String, at key: [String]) throws {
    self.path = path.text
    self.key = key
    let full = path.resolved(in: directory)
    let descriptor = open(full, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw PEMFile.unreadable(full, errno, at: key) }
    defer { close(descriptor) }
    bytes = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    defer { chunk.wipe() }
    while bytes.count <= PEMFile.sizeLimit {
      let count = read(descriptor, &chunk, chunk.count)
      guard count >= 0 else { throw PEMFile.unreadable(full, errno, at: key) }
      if count == 0 { return }
      bytes += chunk.prefix(count)
    }
    throw PluginError("\(full) is far too large to be a PEM file", at: key)
  }

  private static func unreadable(_ path: String, _ code: CInt, at key: [String]) -> PluginError {
    switch code {
    case ENOENT, ENOTDIR: PluginError("there is no file \(path)", at: key)
    case EACCES: PluginError("\(path) may not be read by this user", at: key)
    case EISDIR: PluginError("\(path) is a directory, not a PEM file", at: key)
    default: PluginError("\(path) cannot be read: \(String(cString: strerror(code)))", at: key)
    }
  }

  /// Whether some line begins a PEM block with this label, such as `CERTIFICATE`.
  func holds(_ label: String) -> Bool {
    let begin = Array("-----BEGIN ".utf8)
    return bytes.split(separator: UInt8(ascii: "\n")).contains { line in
      line.starts(with: begin) && String(decoding: line.dropFirst(begin.count), as: UTF8.self).contains(label)
    }
  }
}

extension [UInt8] {
  /// Overwrites secrets before the memory is given back.
  mutating func wipe() {
    withUnsafeMutableBytes { bytes in
      if let start = bytes.baseAddress { gnutls_memset(start, 0, bytes.count) }
    }
  }
}

extension CertificateCredentials {
  /// Adds the certificate chain and the private key by which this end shows who it is.
  ///
  /// - Throws: `PluginError` at `tls.certificate` or `tls.key`.
  func setIdentity(certificate: FilePath, key: FilePath, directory: String) throws {
    let chain = try PEMFile(certificate, in: directory, at: ["tls", "certificate"])
    guard chain.holds("CERTIFICATE") else {
      throw PluginError(
        "\(certificate) holds no certificate: expected PEM text with -----BEGIN CERTIFICATE-----",
        at: chain.key
      )
    }
    try chain.checkCertificates()
    var secret = try PEMFile(key, in: directory, at: ["tls", "key"])
    defer { secret.bytes.wipe() }
    guard secret.holds("PRIVATE KEY") else {
      throw PluginError(
        "\(key) holds no private key: expected PEM text with -----BEGIN PRIVATE KEY-----",
        at: secret.key
      )
    }
    guard !secret.holds("ENCRYPTED") else {
      throw PluginError("\(key) is encrypted: give a key without a pass phrase", at: secret.key)
    }
    let result = chain.bytes.withDatum { chain in
      secret.bytes.withDatum { secret in
        gnutls_certificate_set_x509_key_mem(handle, &chain, &secret, GNUTLS_X509_FMT_PEM)
      }
    }
    switch result {
    case 0...: return
    case GNUTLS_E_CERTIFICATE_KEY_MISMATCH:
      throw PluginError("\(key) is not the key of the certificate in \(certificate)", at: secret.key)
    default:
      throw PluginError("\(key) is not a usable private key: \(GnuTLSFailure(code: result))", at: secret.key)
    }
  }

  /// Trusts the authorities of a PEM file, and no others.
  ///
  /// - Throws: `PluginError` at `key`.
  func trust(_ path: FilePath, directory: String, at key: [String]) throws {
    let file = try PEMFile(path, in: directory, at: key)
    guard file.holds("CERTIFICATE") else {
      throw PluginError(
        "\(path) holds no certificate: expected PEM text with -----BEGIN CERTIFICATE-----",
        at: key
      )
    }
    let result = file.bytes.withDatum {
      gnutls_certificate_set_x509_trust_mem(handle, &$0, GNUTLS_X509_FMT_PEM)
    }
    guard result > 0 else {
      throw PluginError("\(path) cannot be used: \(GnuTLSFailure(code: result))", at: key)
    }
  }

  /// Trusts what the operating system trusts.
  ///
  /// - Throws: `PluginError` where it trusts nothing.
  func trustSystem() throws {
    guard gnutls_certificate_set_x509_system_trust(handle) > 0 else {
      throw PluginError(
        "this system has no certificate authorities: install ca-certificates, or set ca or pin_sha256",
        at: ["tls"]
      )
    }
  }
}

extension PEMFile {
  /// - Throws: `PluginError` where the certificates do not parse, so that a bad key is not blamed for it.
  fileprivate func checkCertificates() throws {
    var list: UnsafeMutablePointer<gnutls_x509_crt_t?>?
    var count: CUnsignedInt = 0
    let result = bytes.withDatum { gnutls_x509_crt_list_import2(&list, &count, &$0, GNUTLS_X509_FMT_PEM, 0) }
    guard result >= 0 else {
      throw PluginError(
        "\(path) holds a certificate that cannot be read: \(GnuTLSFailure(code: result))",
        at: key
      )
    }
    // The list and its certificates are ours to free.
    for index in 0..<Int(count) { gnutls_x509_crt_deinit(list?[index]) }
    cgnutls_free(list)
  }
}
