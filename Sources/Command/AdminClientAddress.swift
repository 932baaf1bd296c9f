import MagicalaneCore

/// Where an admin API listens: `HOST:PORT` or `unix:/PATH`, as `admin: listen` in the config.
enum AdminAddress: Equatable, Sendable {
  case tcp(Target)
  /// An absolute path.
  case unix(path: String)

  /// Where the admin API listens by default.
  static let standard = AdminAddress.tcp(Target(host: .address(.v4(0x7f00_0001)), port: 9090))

  /// What the system's socket address has room for, the closing zero not counted.
  static let longestPath = 107

  /// - Throws: what was expected in place of the text.
  init(_ text: String) throws(Invalid) {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst("unix:".count))
      guard path.hasPrefix("/"), path != "/", !path.utf8.contains(0) else { throw Invalid.form(text) }
      guard path.utf8.count <= AdminAddress.longestPath else { throw Invalid.tooLong(path) }
      self = .unix(path: path)
    } else if let target = Target(text) {
      self = .tcp(target)
    } else {
      throw Invalid.form(text)
    }
  }

  /// The `Host` of a request (RFC 9112 §3.2): a socket's path has none, so it is this host.
  var authority: String {
    switch self {
    case .tcp(let target): target.description
    case .unix: "localhost"
    }
  }

  /// Why a text is no address.
  enum Invalid: Error, Equatable, CustomStringConvertible {
    case form(String)
    case tooLong(String)

    var description: String {
      switch self {
      case .form(let text):
        "'\(text.printable)' is no admin address: expected HOST:PORT, such as 127.0.0.1:9090, or unix:/PATH"
      case .tooLong(let path):
        "the path of a Unix socket has \(AdminAddress.longestPath) bytes at most, this one \(path.utf8.count)"
      }
    }
  }
}

extension AdminAddress: CustomStringConvertible {
  /// As the config writes it.
  var description: String {
    switch self {
    case .tcp(let target): target.description
    case .unix(let path): "unix:\(path)"
    }
  }
}
