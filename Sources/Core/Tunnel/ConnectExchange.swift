import NIOCore

/// The client's side of a CONNECT request (RFC 9110 §9.3.6): bytes in, outcome out; no channel and no clock.
struct ConnectExchange {
  let target: Target
  let credentials: Credentials?
  private var reader = HTTPHeadReader()

  init(target: Target, credentials: Credentials?) {
    self.target = target
    self.credentials = credentials
  }

  /// The request head.
  var request: ByteBuffer {
    let authority = target.description
    var head = "CONNECT \(authority) HTTP/1.1\r\nHost: \(authority)\r\n"
    if let credentials { head += "Proxy-Authorization: \(credentials.basicAuthorization)\r\n" }
    return ByteBuffer(string: head + "\r\n")
  }

  /// Takes response heads from the front of `bytes`; what is behind the last one is the stream's payload.
  ///
  /// - Returns: true once the server agreed, false where more bytes are needed.
  mutating func receive(_ bytes: inout ByteBuffer) throws(OpenError) -> Bool {
    while let head = try takeHead(&bytes) {
      guard let status = Self.status(of: head.startLine) else {
        throw OpenError(.protocolViolation, "the tunnel's server did not answer with an HTTP/1 status line")
      }
      switch status {
      case 101: throw OpenError(.protocolViolation, "the tunnel's server switched to another protocol")
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
    }
  }

  /// Reads `HTTP/1.x NNN reason` (RFC 9112 §4); the reason may be missing.
  private static func status(of line: String) -> Int? {
    let bytes = Array(line.utf8)
    guard bytes.count == 12 || bytes.count > 12 && bytes[12] == UInt8(ascii: " "),
      line.hasPrefix("HTTP/1."), isDigit(bytes[7]), bytes[8] == UInt8(ascii: " "),
      bytes[9...11].allSatisfy(isDigit)
    else { return nil }
    let status = bytes[9...11].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    return status >= 100 ? status : nil
  }

  private static func failure(_ status: Int, _ head: HTTPHead) -> OpenError {
    let proxyStatus = ProxyStatus.parse(head.values(of: "Proxy-Status"))
    let said = proxyStatus.first { $0.error != nil }
    let words = [said?.error, said?.details].compactMap(\.self).map { ": \($0)" }.joined()
    return OpenError(
      OpenError.Kind(status: status, proxyStatus: proxyStatus),
      "the tunnel's server answered \(status)\(words)"
    )
  }
}

private func isDigit(_ byte: UInt8) -> Bool {
  (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
}
