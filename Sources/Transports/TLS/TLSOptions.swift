import MagicalaneCore

/// What a transport's `tls:` mapping may hold: how its server is to be recognised.
///
/// Without `ca`, `pinSha256` and `insecure` the server's certificate must be valid for its name under one of
/// the system's certificate authorities.
struct TLSClientOptions: Decodable, Sendable {
  /// The name to send (SNI, RFC 6066 §3) and to find in the certificate; the host of `server` by default.
  var serverName: String?
  /// PEM file of the authorities to trust in place of the system's.
  var ca: FilePath?
  /// SHA-256 of the server key's SubjectPublicKeyInfo, base64 or hex.
  ///
  /// A pin takes the place of the certificate chain: name, dates and issuer are not looked at.
  var pinSha256: OneOrMore?
  /// Takes any certificate. Anyone on the path can then read and change everything.
  var insecure: Bool?
  /// PEM file of the certificate chain by which this end shows who it is.
  var certificate: FilePath?
  /// PEM file of that certificate's private key.
  var key: FilePath?

  init(
    serverName: String? = nil,
    ca: String? = nil,
    pinSha256: [String]? = nil,
    insecure: Bool? = nil,
    certificate: String? = nil,
    key: String? = nil
  ) {
    self.serverName = serverName
    self.ca = ca.map(FilePath.init)
    self.pinSha256 = pinSha256.map(OneOrMore.init)
    self.insecure = insecure
    self.certificate = certificate.map(FilePath.init)
    self.key = key.map(FilePath.init)
  }
}

/// What a frontend's `tls:` mapping may hold: who the server is.
struct TLSServerOptions: Decodable, Sendable {
  /// PEM file: the server's certificate, followed by those of intermediate authorities.
  var certificate: FilePath
  /// PEM file of the certificate's private key.
  var key: FilePath
  /// PEM file of authorities; where it is given, clients must show a certificate that one of them signed.
  var clientCa: FilePath?

  init(certificate: String, key: String, clientCa: String? = nil) {
    self.certificate = FilePath(certificate)
    self.key = FilePath(key)
    self.clientCa = clientCa.map(FilePath.init)
  }
}
