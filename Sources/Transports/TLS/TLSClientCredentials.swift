import CGnuTLS
import Logging
import MagicalaneCore

/// How a client's sessions recognise their server and show who they are.
///
/// Made once from the options. GnuTLS only reads it from then on, so sessions on every loop share it; each
/// must end before it does.
final class TLSClientCredentials: Sendable {
  /// The name or address that the server's certificate must be for.
  let serverName: Host
  private let credentials: CertificateCredentials
  /// Nil where any certificate will do.
  private let rule: PeerVerification.Rule?

  /// - Parameters:
  ///   - host: the host of the server, which is its name where the options give no other.
  ///   - directory: where relative paths start.
  ///   - logger: gets a warning where the options switch the check of the server off.
  /// - Throws: `PluginError`, with a path that starts with `tls`.
  init(options: TLSClientOptions, host: Host, directory: String, logger: Logger) throws {
    serverName = try TLSClientCredentials.name(options, host)
    credentials = try CertificateCredentials()
    rule = try TLSClientCredentials.rule(options, serverName)
    switch rule {
    case .server:
      if let ca = options.ca {
        try credentials.trust(ca, directory: directory, at: ["tls", "ca"])
      } else {
        try credentials.trustSystem()
      }
    case .pins, .client: break
    case nil:
      logger.warning(
        "The server's certificate is not checked (insecure: true): anyone on the path can read and change everything"
      )
    }
    switch (options.certificate, options.key) {
    case (let certificate?, let key?):
      try credentials.setIdentity(certificate: certificate, key: key, directory: directory)
    case (nil, nil): break
    case (_?, nil):
      throw PluginError("a certificate needs its private key: set key too", at: ["tls", "certificate"])
    case (nil, _?): throw PluginError("a key needs its certificate: set certificate too", at: ["tls", "key"])
    }
  }

  private static func name(_ options: TLSClientOptions, _ host: Host) throws -> Host {
    guard let text = options.serverName else { return host }
    guard let name = Host(text) else {
      throw PluginError("\"\(text)\" is neither a host name nor an address", at: ["tls", "server_name"])
    }
    return name
  }

  private static func rule(_ options: TLSClientOptions, _ name: Host) throws -> PeerVerification.Rule? {
    let insecure = options.insecure ?? false
    if options.ca != nil && options.pinSha256 != nil {
      throw PluginError("pin_sha256 takes the place of ca: leave one of them out", at: ["tls", "pin_sha256"])
    }
    if insecure, options.ca != nil || options.pinSha256 != nil {
      throw PluginError(
        "insecure checks nothing, but ca or pin_sha256 asks for a check",
        at: ["tls", "insecure"]
      )
    }
    if insecure { return nil }
    guard let texts = options.pinSha256?.values else { return .server(name) }
    let pins = try texts.map { text in
      guard let pin = CertificatePin(text) else {
        throw PluginError(
          "\"\(text)\" is no SHA-256 pin: expected 64 hex digits or 44 characters of base64",
          at: ["tls", "pin_sha256"]
        )
      }
      return pin
    }
    guard !pins.isEmpty else { throw PluginError("the list of pins is empty", at: ["tls", "pin_sha256"]) }
    return .pins(Set(pins))
  }

  /// Sets credentials, priorities, server name and verification on a new client session.
  ///
  /// A server that is known by its address gets no name (RFC 6066 §3).
  ///
  /// - Returns: the check of the server, which the session's owner keeps for as long as the session, and
  ///   asks for the reason when a handshake fails; nil where nothing is checked.
  func configure(_ session: gnutls_session_t, priorities: TLSPriorities) throws(GnuTLSFailure)
    -> PeerVerification?
  {
    try priorities.apply(to: session)
    try GnuTLSFailure.check(
      gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials.handle))
    )
    if case .name(let name) = serverName {
      let bare = name.hasSuffix(".") ? String(name.dropLast()) : name
      try GnuTLSFailure.check(gnutls_server_name_set(session, GNUTLS_NAME_DNS, bare, bare.utf8.count))
    }
    let verification = rule.map(PeerVerification.init)
    verification?.attach(to: session)
    return verification
  }
}
