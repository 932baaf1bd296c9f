import NIOCore

/// The client's side of a CONNECT request (RFC 9110 §9.3.6): bytes in, outcome out; no channel and no clock.
struct ConnectExchange {
  let target: Target
  let credentials: Credentials?
  /// Which streams the server is to count together; nil where it need not.
  let leg: LegID?
  private var reader = HTTPHeadReader()

  init(target: Target, credentials: Credentials?, leg: LegID? = nil) {
    self.target = target
    self.credentials = credentials
    self.leg = leg
  }

  /// The request head.
  var request: ByteBuffer {
    let authority = target.description
    var head = "CONNECT \(authority) HTTP/1.1\r\nHost: \(authority)\r\n"
    if let credentials { head += "Proxy-Authorization: \(credentials.basicAuthorization)\r\n" }
    if let leg { head += "\(LegID.field): \(leg)\r\n" }
    return ByteBuffer(string: head + "\r\n")
  }

  /// Takes response heads from the front of `bytes`; what is behind the last one is the stream's payload.
  ///
  /// - Returns: true once the server agreed, false where more bytes are needed.
  mutating func receive(_ bytes: inout ByteBuffer) throws(OpenError) -> Bool {
    while let head = try takeHead(&bytes) {
      guard let status = head.responseStatus else {
        throw OpenError(.protocolViolation, "the tunnel's server did not answer with an HTTP/1 status line")
          .ofTunnel
      }
      switch status {
      case 101:
        throw OpenError(.protocolViolation, "the tunnel's server switched to another protocol").ofTunnel
      case 100...199: continue
      case 200...299: return true
      default: throw Self.failure(status, head)
      }
    }
    return false
  }

  private mutating func takeHead(_ bytes: inout ByteBuffer) throws(OpenError) -> HTTPHead? {
    do {
      return try reader.read(&bytes)
    } catch {
      throw OpenError(.protocolViolation, "the tunnel's server sent no valid HTTP/1 head", cause: error)
        .ofTunnel
    }
  }

  private static func failure(_ status: Int, _ head: HTTPHead) -> OpenError {
    let proxyStatus = ProxyStatus.parse(head.values(of: "Proxy-Status"))
    let said = proxyStatus.first { $0.error != nil }
    let words = [said?.error, said?.details].compactMap(\.self).map { ": \($0)" }.joined()
    let failure = OpenError(
      OpenError.Kind(status: status, proxyStatus: proxyStatus),
      "the tunnel's server answered \(status)\(words)"
    )
    return failure.kind == .credentialsRefused ? failure.ofTunnel : failure
  }
}
