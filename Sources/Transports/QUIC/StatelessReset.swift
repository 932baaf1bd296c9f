import CGnuTLS
import FoundationEssentials
import MagicalaneCore

/// The key of a server's stateless resets (RFC 9000 §10.3.2).
enum StatelessReset {
  /// Follows from the server's private key, so that a server that is started again can tell its clients that
  /// it has lost their connections, and they need not wait for a time-out. Random where the key cannot be
  /// read, which the credentials complain about.
  static func secret(_ options: TLSServerOptions, _ directory: String) -> [UInt8] {
    let path = URL(filePath: options.key.resolved(in: directory))
    guard let key = try? Data(contentsOf: path) else { return randomBytes(32) }
    var secret = [UInt8](repeating: 0, count: 32)
    let label = Array("magicalane stateless reset".utf8)
    let result = key.withUnsafeBytes { key in
      gnutls_hmac_fast(GNUTLS_MAC_SHA256, key.baseAddress, key.count, label, label.count, &secret)
    }
    return result == 0 ? secret : randomBytes(32)
  }
}
