import MagicalaneCore

/// Who may speak to the admin API.
///
/// With a token, who has it. Without one, whatever comes over the Unix socket or the loopback address: there
/// the danger is a web page in a browser of this machine, which can send requests to any address, under a
/// name of its own that it lets point here (DNS rebinding). Such requests show by `Host`, `Origin` and
/// `Sec-Fetch-Site`.
struct AccessRules: Sendable {
  /// What callers send as `Authorization: Bearer`; nil where none is asked for.
  var token: String?
  /// The host of `admin.listen`, without its port.
  var listenHost: Host?
  /// Paths that need no token: probes have none.
  var openPaths: Set<String> = ["/healthz", "/readyz"]

  /// - Parameter listen: As the config writes it: `host:port`, or `unix:/path`.
  init(token: String?, listen: String) {
    self.token = token
    listenHost = ListenAddress(scheme: "tcp", location: listen).hostAndPort?.host
  }

  /// The answer to a request that may not go on: 403 or 401. Nil where it may.
  func refusal(of request: AdminRequest) -> Problem? {
    if let problem = crossSite(request) { return problem }
    guard let token else { return rebinding(request) }
    guard !openPaths.contains(request.target.path) else { return nil }
    return unauthorized(request, token: token)
  }

  // MARK: Browsers

  private func crossSite(_ request: AdminRequest) -> Problem? {
    if let site = request.headers["sec-fetch-site"], site != "same-origin", site != "none" {
      return Problem(403, detail: "requests from other sites are refused (Sec-Fetch-Site: \(site))")
    }
    if let origin = request.headers["origin"], !isSameOrigin(origin, as: request.authority) {
      return Problem(403, detail: "requests from other origins are refused (Origin: \(origin))")
    }
    return nil
  }

  private func isSameOrigin(_ origin: String, as authority: String?) -> Bool {
    let parts = origin.lowercased().split(separator: "://", maxSplits: 1)
    guard parts.count == 2, let authority, let port = ["http": 80, "https": 443][String(parts[0])],
      let mine = Authority(authority), let theirs = Authority(String(parts[1]))
    else { return false }
    return mine.host == theirs.host && (mine.port ?? port) == (theirs.port ?? port)
  }

  private func rebinding(_ request: AdminRequest) -> Problem? {
    guard !request.isLocalSocket else { return nil }
    let authority = request.authority ?? ""
    switch Authority(authority)?.host {
    case .address: return nil
    case .name("localhost"): return nil
    case .name(let name) where listenHost.map(Authority.lowercased) == .name(name): return nil
    default:
      return Problem(
        403,
        detail: "'\(authority)' is no name of this API; use its address, or set admin.token"
      )
    }
  }

  // MARK: Token

  private func unauthorized(_ request: AdminRequest, token: String) -> Problem? {
    guard let field = request.headers["authorization"] else {
      return Problem(
        401,
        detail: "this API asks for a token",
        headers: ["WWW-Authenticate": "Bearer realm=\"magicalane\""]
      )
    }
    let parts = field.split(separator: " ", maxSplits: 1)
    if parts.count == 2, parts[0].lowercased() == "bearer",
      token.equalsInConstantTime(String(parts[1]).trimmedWhitespace)
    {
      return nil
    }
    return Problem(
      401,
      detail: "this is not the token",
      headers: ["WWW-Authenticate": "Bearer realm=\"magicalane\", error=\"invalid_token\""]
    )
  }
}

/// `host[:port]`, its name in lower case and without the dot that may end it.
private struct Authority {
  var host: Host
  var port: Int?

  init?(_ text: String) {
    if let (host, port) = ListenAddress(scheme: "tcp", location: text).hostAndPort {
      self.host = Self.lowercased(host)
      self.port = port
    } else {
      // Host reads an address in brackets too.
      guard let host = Host(text) else { return nil }
      self.host = Self.lowercased(host)
    }
  }

  static func lowercased(_ host: Host) -> Host {
    guard case .name(let name) = host else { return host }
    let lower = name.lowercased()
    return .name(lower.hasSuffix(".") ? String(lower.dropLast()) : lower)
  }
}
