import MagicalaneCore

/// Why a request gets no tunnel, and how it is answered.
struct HTTPConnectFault: Error {
  var response: HTTPResponse
  /// In words for the log.
  var reason: String
  /// Whether the client may send another request on the same connection.
  var canGoOn = false

  init(_ error: HTTPHeadError) {
    switch error {
    case .tooLarge:
      self.init(.headTooLarge, "a head of more than \(HTTPHeadReader.limit) bytes")
    case .malformed(let reason):
      self = .badRequest(reason)
    }
  }

  static func badRequest(_ reason: String) -> HTTPConnectFault {
    HTTPConnectFault(.badRequest, reason)
  }

  static func versionNotSupported(_ version: String) -> HTTPConnectFault {
    HTTPConnectFault(.versionNotSupported, "\(version), where HTTP/1.1 is spoken")
  }

  static func methodNotAllowed(hasBody: Bool, canGoOn: Bool) -> HTTPConnectFault {
    var fault = HTTPConnectFault(.methodNotAllowed, "a method other than CONNECT")
    fault.canGoOn = canGoOn
    fault.response.isLast = !canGoOn
    fault.response.hasBody = hasBody
    fault.response.fields = [("Allow", "CONNECT")]
    fault.response.body = """
      This proxy takes CONNECT requests only: it opens tunnels and fetches no pages itself.
      Clients use CONNECT for https:// URLs; for http:// URLs they can be told to,
      as curl is by --proxytunnel.

      """
    return fault
  }

  static var upgradeRequired: HTTPConnectFault {
    var fault = HTTPConnectFault(.upgradeRequired, "path reports are read after an upgrade of the connection")
    fault.response.fields = [("Upgrade", PathReportProtocol.name)]
    fault.response.options = ["Upgrade"]
    return fault
  }

  static func authenticationRequired(_ reason: String, canGoOn: Bool) -> HTTPConnectFault {
    var fault = HTTPConnectFault(.proxyAuthenticationRequired, reason, error: "http_request_denied")
    fault.canGoOn = canGoOn
    fault.response.isLast = !canGoOn
    fault.response.fields = [("Proxy-Authenticate", "Basic realm=\"magicalane\", charset=\"UTF-8\"")]
    return fault
  }

  private init(_ status: HTTPStatus, _ reason: String, error: String = "http_request_error") {
    let proxyStatus = ProxyStatus(proxy: HTTPResponse.proxyName, error: error, details: reason)
    self.response = HTTPResponse(status, proxyStatus: proxyStatus, body: "\(reason)\n")
    self.reason = reason
  }
}
