/// Where a frontend listens: `SCHEME://LOCATION`, such as `tcp://127.0.0.1:1080`.
///
/// The scheme is the type of the transport that listens; what the location means is that transport's
/// business: a host and port for most, a path for one over Unix-domain sockets.
public struct ListenAddress: Hashable, Sendable {
  /// The `type` of the transport that listens.
  public var scheme: String
  /// What stands behind `://`.
  public var location: String

  /// An address from its parts.
  public init(scheme: String, location: String) {
    self.scheme = scheme
    self.location = location
  }

  /// Splits at the first `://`; nil where either part is empty.
  public init?(_ text: String) {
    guard let separator = text.firstRange(of: "://"), separator.lowerBound != text.startIndex,
      separator.upperBound != text.endIndex
    else { return nil }
    self.init(scheme: String(text[..<separator.lowerBound]), location: String(text[separator.upperBound...]))
  }

  /// The location as host and port; port 0 asks the system for a free one. Nil where it is no `host:port`.
  public var hostAndPort: (host: Host, port: Int)? {
    Target.split(location)
  }
}

extension ListenAddress: CustomStringConvertible {
  /// As the config writes it.
  public var description: String { "\(scheme)://\(location)" }
}
