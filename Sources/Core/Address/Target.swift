/// The host of a target: a name still to be resolved, or an address.
public enum Host: Hashable, Sendable {
  case name(String)
  case address(IPAddress)

  /// Reads a host as it stands in a URI authority: a name, an IPv4 address, or an IPv6 address with or
  /// without brackets.
  ///
  /// - Returns: nil where the text is neither an address nor a name that DNS could hold: empty, over 253
  ///   bytes, a label over 63 bytes, or a byte that is not a letter, digit, `-`, `_` or `.`.
  public init?(_ text: String) {
    if text.hasPrefix("[") {
      guard text.hasSuffix("]"), let address = IPAddress(String(text.dropFirst().dropLast())),
        case .v6 = address
      else { return nil }
      self = .address(address)
    } else if let address = IPAddress(text) {
      self = .address(address)
    } else if Host.isName(text) {
      self = .name(text)
    } else {
      return nil
    }
  }

  private static func isName(_ text: String) -> Bool {
    let name = text.hasSuffix(".") ? text.dropLast() : text[...]
    guard (1...253).contains(name.utf8.count) else { return false }
    let labels = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    return labels.allSatisfy { (1...63).contains($0.count) && $0.allSatisfy(isNameByte) }
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
    default: false
    }
  }
}

extension Host: CustomStringConvertible {
  /// The host without brackets.
  public var description: String {
    switch self {
    case .name(let name): name
    case .address(let address): address.description
    }
  }
}

/// A host and a port to reach: the destination that a client asks for, or the server of a tunnel.
public struct Target: Hashable, Sendable {
  /// A name or an address.
  public var host: Host
  /// 1 to 65535.
  public var port: Int

  /// - Precondition: none; callers that read a port from the wire check it themselves.
  public init(host: Host, port: Int) {
    self.host = host
    self.port = port
  }

  /// Reads `host:port` or `[v6]:port` (RFC 3986 §3.2 without user information).
  ///
  /// - Returns: nil where the host is not one, the port is missing, not a number, or not in 1...65535.
  public init?(_ authority: String) {
    guard let (host, port) = Target.split(authority), port > 0 else { return nil }
    self.init(host: host, port: port)
  }

  /// Whether its text form is one that `init(_:)` reads back as the same: a target can be put together of anything.
  var isValid: Bool {
    guard (1...65535).contains(port) else { return false }
    switch host {
    case .address: return true
    case .name(let name): return Host(name) == host
    }
  }

  /// As `init(_:)`, but port 0 is allowed: "any free port" for a listener.
  static func split(_ authority: String) -> (Host, Int)? {
    let colonByte = UInt8(ascii: ":")
    guard let colon = authority.utf8.lastIndex(of: colonByte) else { return nil }
    let hostText = authority[..<colon]
    let portText = authority[authority.utf8.index(after: colon)...]
    guard hostText.utf8.first == UInt8(ascii: "[") || !hostText.utf8.contains(colonByte),
      let host = Host(String(hostText))
    else { return nil }
    guard (1...5).contains(portText.utf8.count), portText.utf8.allSatisfy({ (48...57).contains($0) }),
      let port = Int(portText), port <= 65535
    else { return nil }
    return (host, port)
  }
}

extension Target: CustomStringConvertible {
  /// The authority form of RFC 9112 §3.2.3: `name:443`, `192.0.2.1:443`, `[2001:db8::1]:443`.
  public var description: String {
    if case .address(.v6) = host { "[\(host)]:\(port)" } else { "\(host):\(port)" }
  }
}
