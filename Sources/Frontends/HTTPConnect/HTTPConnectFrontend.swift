import MagicalaneCore
import NIOCore

/// An HTTP/1.1 proxy for CONNECT requests (RFC 9110 §9.3.6), for everyone or with Basic authentication
/// (RFC 7617).
///
/// It is the tunnel's server side as well, on any transport: the leg that a request names is counted, and who asks
/// what was counted is told so (docs/path-reports.md). NIOHTTP1 is not used: its decoder is a channel
/// handler that takes what is behind a CONNECT head as its own and gives it back only when it is removed,
/// and it cannot be run as bytes in, steps out.
public struct HTTPConnectFrontend: Frontend {
  /// `type: http`.
  public static let type = "http"

  private let users: UserList?

  /// Never fails: there is nothing to set.
  public init(options: NoOptions, context: FrontendContext) {
    users = context.users
  }

  /// A handshake that starts with the client's request head.
  public func makeHandshake() -> some FrontendHandshake {
    HTTPConnectHandshake(users: users)
  }
}

/// The server's side of one CONNECT exchange, or of one request for path reports.
///
///     request ── CONNECT ──► ended (200, or a failure and the end)
///      ▲  ├── request for reports ──► ended (101, or a failure and the end)
///      ▲  ├── 405 or 407 that leaves the connection fit for another try ──┐
///      │  └── anything else: a response and the end                       │
///      └────────────────────────────────────────────────────────────────────┘
///
/// An unfinished head is refused at `HTTPHeadReader.limit`.
struct HTTPConnectHandshake: FrontendHandshake {
  /// How often a client may try again on one connection.
  static let retries = 3

  private enum State {
    case request(retriesLeft: Int)
    case ended
  }

  private var state = State.request(retriesLeft: retries)
  private(set) var leg: LegID?
  /// The answer once all is well.
  private var answer = HTTPConnectHandshake.tunnel
  private var reader = HTTPHeadReader()
  private let users: UserList?

  init(users: UserList?) {
    self.users = users
  }

  mutating func receive(_ bytes: inout ByteBuffer) -> HandshakeStep {
    guard case .request(let retriesLeft) = state else { return .needMore }
    do throws(HTTPConnectFault) {
      guard let request = try readRequest(&bytes) else { return .needMore }
      // A client that sent bytes before it knew the answer meant them for the target. Read as a request of
      // this client, they could ask for something that it never wanted.
      let canGoOn = request.leavesConnectionOpen && bytes.readableBytes == 0 && retriesLeft > 0
      return try answer(request, canGoOn: canGoOn)
    } catch {
      return answer(error)
    }
  }

  mutating func accepted() -> ByteBuffer {
    ByteBuffer(string: answer)
  }

  /// No framing fields: RFC 9110 §9.3.6 forbids them here.
  private static let tunnel = "HTTP/1.1 200 Connection established\r\n\r\n"
  private static let reports =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: \(PathReportProtocol.name)\r\n\r\n"

  mutating func refused(_ error: OpenError) -> ByteBuffer {
    HTTPResponse(error).bytes
  }

  private mutating func readRequest(_ bytes: inout ByteBuffer) throws(HTTPConnectFault) -> HTTPConnectRequest?
  {
    let head: HTTPHead?
    do {
      head = try reader.read(&bytes)
    } catch {
      throw HTTPConnectFault(error)
    }
    guard let head else { return nil }
    return try HTTPConnectRequest(head)
  }

  private mutating func answer(
    _ request: HTTPConnectRequest,
    canGoOn: Bool
  ) throws(HTTPConnectFault) -> HandshakeStep {
    if request.asksForReports { return try report(request, canGoOn: canGoOn) }
    guard request.method == "CONNECT" else {
      throw .methodNotAllowed(hasBody: request.method != "HEAD", canGoOn: canGoOn)
    }
    let target = try request.target()
    let user = try verifiedUser(request, canGoOn: canGoOn)
    state = .ended
    leg = request.leg
    return .open(target, user: user)
  }

  private mutating func report(
    _ request: HTTPConnectRequest,
    canGoOn: Bool
  ) throws(HTTPConnectFault) -> HandshakeStep {
    try request.checkUpgrade()
    let user = try verifiedUser(request, canGoOn: canGoOn)
    guard let leg = request.leg else {
      throw .badRequest("\(LegID.field) is missing, or is not 32 hexadecimal digits")
    }
    state = .ended
    answer = HTTPConnectHandshake.reports
    return .report(leg, user: user)
  }

  private func verifiedUser(_ request: HTTPConnectRequest, canGoOn: Bool) throws(HTTPConnectFault) -> String?
  {
    guard let users else { return nil }
    guard let credentials = request.credentials else {
      throw .authenticationRequired("no credentials in the request", canGoOn: canGoOn)
    }
    guard users.verify(user: credentials.user, password: credentials.password) else {
      throw .authenticationRequired("wrong user name or password", canGoOn: canGoOn)
    }
    return credentials.user
  }

  private mutating func answer(_ fault: HTTPConnectFault) -> HandshakeStep {
    guard fault.canGoOn, case .request(let retriesLeft) = state else {
      state = .ended
      return .refuse(fault.response.bytes, reason: fault.reason)
    }
    state = .request(retriesLeft: retriesLeft - 1)
    return .send(fault.response.bytes)
  }
}
