/// How an `OpenError.Kind` travels in an HTTP response.
package struct HTTPFailure: Hashable, Sendable {
  package var status: Int
  /// The error type of `Proxy-Status` (RFC 9209 §2.3).
  package var error: String
  /// The extension parameter, where one error type stands for more than one kind.
  package var cause: String?

  init(_ status: Int, _ error: String, cause: String? = nil) {
    self.status = status
    self.error = error
    self.cause = cause
  }
}

extension OpenError.Kind {
  /// What a server answers; the one table for both ends, so that each kind arrives as itself.
  ///
  /// `credentialsRefused` is a 502 and no 407: it was the proxy itself that the next one turned away, and a
  /// browser that saw a 407 would ask its user for a password.
  package var httpFailure: HTTPFailure {
    switch self {
    case .refused: HTTPFailure(502, "connection_refused")
    case .hostUnreachable: HTTPFailure(502, "destination_ip_unroutable", cause: "host_unreachable")
    case .networkUnreachable: HTTPFailure(502, "destination_ip_unroutable", cause: "network_unreachable")
    case .hopLimitExceeded: HTTPFailure(502, "destination_ip_unroutable", cause: "hop_limit_exceeded")
    case .nameNotResolved: HTTPFailure(502, "dns_error")
    case .timedOut: HTTPFailure(504, "connection_timeout")
    case .notAllowed: HTTPFailure(403, "http_request_denied")
    case .credentialsRefused: HTTPFailure(502, "proxy_configuration_error", cause: "credentials_refused")
    case .unavailable: HTTPFailure(503, "connection_limit_reached")
    case .protocolViolation: HTTPFailure(502, "http_protocol_error")
    case .failed: HTTPFailure(502, "proxy_internal_error")
    }
  }

  /// The kind that a response which is not 2xx stands for.
  ///
  /// The first error counts, for it is nearest to the target. Where there is none, or none that we know, the
  /// status decides.
  package init(status: Int, proxyStatus: [ProxyStatus]) {
    let failure = proxyStatus.first { $0.error != nil }
    if status == 407 {
      self = .credentialsRefused
    } else if let error = failure?.error, let kind = Self(error: error, cause: failure?.cause) {
      self = kind
    } else {
      self = Self(status: status)
    }
  }

  private init?(error: String, cause: String?) {
    let kinds = Self.allCases
    let sameError = kinds.filter { $0.httpFailure.error == error }
    let exact =
      sameError.first { $0.httpFailure.cause == cause } ?? sameError.first { $0.httpFailure.cause == nil }
    guard let kind = exact ?? Self.ofOtherProxies[error] else { return nil }
    self = kind
  }

  /// Error types that other proxies send and we do not.
  private static let ofOtherProxies: [String: Self] = [
    "destination_ip_unroutable": .hostUnreachable,
    "destination_unavailable": .hostUnreachable,
    "destination_ip_prohibited": .notAllowed,
    "dns_timeout": .timedOut,
    "connection_read_timeout": .timedOut,
    "connection_write_timeout": .timedOut,
    "http_response_timeout": .timedOut,
  ]

  private init(status: Int) {
    switch status {
    case 407: self = .credentialsRefused
    case 403: self = .notAllowed
    case 429, 503: self = .unavailable
    case 504: self = .timedOut
    default: self = .failed
    }
  }
}
