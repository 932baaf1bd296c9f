import MagicalaneCore

/// A request head as a CONNECT proxy looks at it.
struct HTTPConnectRequest {
  let method: String
  /// The request target as it stands in the request line.
  private let authority: String
  private let head: HTTPHead
  private let isHTTP11: Bool

  /// Checks what holds for every request: the request line, the version, and Host (RFC 9112 §3).
  init(_ head: HTTPHead) throws(HTTPConnectFault) {
    let parts = head.startLine.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(isTokenByte), !parts[1].isEmpty else {
      throw .badRequest("the first line is no HTTP request line")
    }
    let version = String(Substring(parts[2]))
    guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
      throw Self.isVersion(parts[2]) ? .versionNotSupported(version) : .badRequest("no HTTP version")
    }
    self.method = String(Substring(parts[0]))
    self.authority = String(Substring(parts[1]))
    self.head = head
    self.isHTTP11 = version == "HTTP/1.1"
    let hosts = head.values(of: "Host").count
    guard hosts == 1 || hosts == 0 && !isHTTP11 else {
      throw .badRequest("\(hosts) Host fields where HTTP/1.1 wants one")
    }
  }

  /// Whether this is `HTTP/d.d`.
  private static func isVersion(_ text: Substring.UTF8View) -> Bool {
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    let bytes = Array(text)
    return bytes.count == 8 && bytes.starts(with: "HTTP/".utf8)
      && digits.contains(bytes[5]) && bytes[6] == UInt8(ascii: ".") && digits.contains(bytes[7])
  }

  /// The target of a CONNECT request: `host:port` and nothing else (RFC 9112 §3.2.3).
  func target() throws(HTTPConnectFault) -> Target {
    guard !hasContent else { throw .badRequest("a CONNECT request has no content") }
    guard let target = Target(authority) else {
      throw .badRequest("the target of a CONNECT request is HOST:PORT or [IPV6]:PORT")
    }
    return target
  }

  /// Whether it is for what this end counted of a leg (docs/path-reports.md).
  var asksForReports: Bool { method == "GET" && authority == PathReportProtocol.path }

  /// Checks that the client wants to go on in the protocol of path reports (RFC 9110 §7.8).
  func checkUpgrade() throws(HTTPConnectFault) {
    guard !hasContent else { throw .badRequest("a request for path reports has no content") }
    guard isHTTP11, head.lists("Upgrade", in: "Connection"),
      head.lists(PathReportProtocol.name, in: "Upgrade")
    else {
      throw .upgradeRequired
    }
  }

  /// The leg that the client says this stream belongs to; nil where it says none, or nothing that can be read.
  var leg: LegID? {
    let values = head.values(of: LegID.field)
    return values.count == 1 ? LegID(values[0]) : nil
  }

  /// What `Proxy-Authorization` holds; nil where there is none, or two that may not agree.
  var credentials: Credentials? {
    let values = head.values(of: "Proxy-Authorization")
    guard values.count == 1, let value = values.first else { return nil }
    return Credentials(basicAuthorization: value)
  }

  /// Whether another request may follow this one: the end of this one is beyond doubt, and the client has not
  /// said that it is the last (RFC 9112 §9.3).
  var leavesConnectionOpen: Bool {
    isHTTP11 && !hasContent && !head.lists("close", in: "Connection")
  }

  /// `Content-Length: 0`, which some clients send with CONNECT, leaves no doubt and passes.
  private var hasContent: Bool {
    let lengths = head.values(of: "Content-Length")
    return !head.values(of: "Transfer-Encoding").isEmpty || !(lengths.isEmpty || lengths == ["0"])
  }
}
