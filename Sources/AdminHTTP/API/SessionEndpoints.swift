import FoundationEssentials
import MagicalaneCore
import NIOCore

/// Live sessions: to look at, and to end.
extension AdminAPI {
  func addSessions(to router: inout Router) {
    router.on("GET", "/v1/sessions") { request, _ in
      try .json(await list(try SessionQuery(request)), for: request)
    }
    router.on("GET", "/v1/sessions/{id}") { request, parameters in
      _ = try Query(request)
      let id = try AdminAPI.sessionID(parameters)
      guard let session = runtime.session(id) else { throw AdminAPI.noSession(id) }
      let waiting = await runtime.waitingBytes(in: [id])
      return try .json(
        SessionBody(session: session, now: .now, waiting: waiting[id] ?? .zero),
        for: request
      )
    }
    router.on("DELETE", "/v1/sessions/{id}") { request, parameters in
      _ = try Query(request)
      let id = try AdminAPI.sessionID(parameters)
      guard runtime.endSession(id, reason: "ended by the admin API") else { throw AdminAPI.noSession(id) }
      return AdminResponse(status: 204)
    }
  }

  private func list(_ query: SessionQuery) async -> SessionsBody {
    let matching = query.sorted(runtime.liveSessions.filter(query.matches))
    let page = matching.dropFirst(query.offset).prefix(query.limit)
    let waiting = await runtime.waitingBytes(in: page.map(\.id))
    let now = Date.now
    return SessionsBody(
      sessions: page.map { SessionBody(session: $0, now: now, waiting: waiting[$0.id] ?? .zero) },
      total: matching.count,
      offset: query.offset,
      limit: query.limit
    )
  }

  private static func sessionID(_ parameters: Router.Parameters) throws(Problem) -> UInt64 {
    let text = parameters["id"] ?? ""
    guard let id = UInt64(text), "\(id)" == text else {
      throw Problem(404, detail: "'\(text)' is no session's id, which is a number")
    }
    return id
  }

  private static func noSession(_ id: UInt64) -> Problem {
    Problem(404, detail: "there is no live session \(id)")
  }
}

/// Which sessions are asked for, in which order, and which part of the list.
struct SessionQuery {
  /// What they are sorted by.
  enum Key: String, CaseIterable {
    case id, age, bytes
    case bytesUp = "bytes_up"
    case bytesDown = "bytes_down"
  }

  static let usualLimit = 100
  static let greatestLimit = 1000

  var frontend: String?
  var transport: String?
  var user: String?
  /// A part of `host:port`.
  var target: String?
  /// A part of `address:port`.
  var client: String?
  var state: SessionInfo.State?
  var key = Key.id
  var isDescending = false
  var limit = usualLimit
  var offset = 0

  init(_ request: AdminRequest) throws(Problem) {
    let query = try Query(
      request,
      "frontend",
      "transport",
      "user",
      "target",
      "client",
      "state",
      "sort",
      "limit",
      "offset"
    )
    frontend = query["frontend"]
    transport = query["transport"]
    user = query["user"]
    target = query["target"]?.lowercased()
    client = query["client"]
    state = try query.choice("state", SessionInfo.State.self)
    limit = try query.integer("limit", in: 1...Self.greatestLimit, default: Self.usualLimit)
    offset = try query.integer("offset", in: 0...Int(Int32.max), default: 0)
    guard let sort = query["sort"] else { return }
    isDescending = sort.hasPrefix("-")
    guard let key = Key(rawValue: isDescending ? String(sort.dropFirst()) : sort) else {
      let names = Key.allCases.map(\.rawValue).joined(separator: ", ")
      throw Problem(
        400,
        detail:
          "query parameter 'sort': expected one of \(names), with '-' before it to begin with the greatest, found '\(sort)'"
      )
    }
    self.key = key
  }

  func matches(_ session: SessionInfo) -> Bool {
    (frontend.map { $0 == session.frontend } ?? true)
      && (transport.map { $0 == session.transport } ?? true)
      && (user.map { $0 == session.user } ?? true)
      && (state.map { $0 == session.state } ?? true)
      && (target.map { wanted in session.target.map { "\($0)".lowercased().contains(wanted) } ?? false }
        ?? true)
      && (client.map { wanted in session.client?.hostAndPort?.contains(wanted) ?? false } ?? true)
  }

  /// In the order asked for; ties by id.
  func sorted(_ sessions: [SessionInfo]) -> [SessionInfo] {
    let ascending = sessions.map { (key: value(of: $0), session: $0) }
      .sorted { ($0.key, $0.session.id) < ($1.key, $1.session.id) }
      .map(\.session)
    return isDescending ? ascending.reversed() : ascending
  }

  private func value(of session: SessionInfo) -> Double {
    switch key {
    case .id: Double(session.id)
    // The younger was started later.
    case .age: -session.started.timeIntervalSinceReferenceDate
    case .bytes: Double(session.bytesUp) + Double(session.bytesDown)
    case .bytesUp: Double(session.bytesUp)
    case .bytesDown: Double(session.bytesDown)
    }
  }
}

extension SocketAddress {
  /// `127.0.0.1:4242`, `[::1]:4242`; nil for a Unix-domain socket, whose clients have no address.
  var hostAndPort: String? {
    guard let address = IPAddress(self), let port else { return nil }
    return "\(Target(host: .address(address), port: port))"
  }
}
