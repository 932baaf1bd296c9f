import MagicalaneCore
import NIOCore

/// The statuses that the proxy answers with (RFC 9110 §15, RFC 6585 §5).
enum HTTPStatus: Int, CaseIterable {
  case badRequest = 400
  case forbidden = 403
  case methodNotAllowed = 405
  case proxyAuthenticationRequired = 407
  case upgradeRequired = 426
  case headTooLarge = 431
  case badGateway = 502
  case unavailable = 503
  case gatewayTimeout = 504
  case versionNotSupported = 505

  var reasonPhrase: String {
    switch self {
    case .badRequest: "Bad Request"
    case .forbidden: "Forbidden"
    case .methodNotAllowed: "Method Not Allowed"
    case .proxyAuthenticationRequired: "Proxy Authentication Required"
    case .upgradeRequired: "Upgrade Required"
    case .headTooLarge: "Request Header Fields Too Large"
    case .badGateway: "Bad Gateway"
    case .unavailable: "Service Unavailable"
    case .gatewayTimeout: "Gateway Timeout"
    case .versionNotSupported: "HTTP Version Not Supported"
    }
  }
}

/// A response that opens no tunnel, with a body for the person who reads it.
struct HTTPResponse {
  /// By this name the proxy goes in `Proxy-Status`.
  static let proxyName = "magicalane"

  var status: HTTPStatus
  /// Fields beside those that every response has. Names and values must be fit to be sent as they are.
  var fields: [(name: String, value: String)] = []
  var proxyStatus: ProxyStatus
  var body: String
  /// False for an answer to HEAD, which has the length of a body and no body.
  var hasBody = true
  /// Whether the connection closes behind it.
  var isLast = true
  /// What `Connection` says beside that (RFC 9110 §7.6.1).
  var options: [String] = []

  init(_ status: HTTPStatus, proxyStatus: ProxyStatus, body: String) {
    self.status = status
    self.proxyStatus = proxyStatus
    self.body = body
  }

  /// The answer where the target could not be reached.
  init(_ error: OpenError) {
    let failure = error.kind.httpFailure
    let proxyStatus = ProxyStatus(
      proxy: Self.proxyName,
      error: failure.error,
      cause: failure.cause,
      details: error.message
    )
    let status = HTTPStatus(rawValue: failure.status) ?? .badGateway
    self.init(status, proxyStatus: proxyStatus, body: "\(error.message)\n")
  }

  var bytes: ByteBuffer {
    var text = "HTTP/1.1 \(status.rawValue) \(status.reasonPhrase)\r\n"
    for field in fields { text += "\(field.name): \(field.value)\r\n" }
    text += "Proxy-Status: \(proxyStatus)\r\n"
    text += "Content-Type: text/plain; charset=utf-8\r\nContent-Length: \(body.utf8.count)\r\n"
    let options = options + (isLast ? ["close"] : [])
    if !options.isEmpty { text += "Connection: \(options.joined(separator: ", "))\r\n" }
    text += "\r\n"
    if hasBody { text += body }
    return ByteBuffer(string: text)
  }
}
