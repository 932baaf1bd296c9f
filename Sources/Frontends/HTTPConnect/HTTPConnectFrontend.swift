import MagicalaneCore
import NIOCore

/// An HTTP/1.1 proxy for CONNECT requests (RFC 9110 §9.3.6), for everyone or with Basic authentication
/// (RFC 7617).
///
/// It is the tunnel's server side as well, on any transport. NIOHTTP1 is not used: its decoder is a channel
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

/// The server's side of one CONNECT exchange.
///
///     request ── CONNECT ──► ended (200, or a failure and the end)
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
    // No framing fields: RFC 9110 §9.3.6 forbids them here.
    ByteBuffer(string: "HTTP/1.1 200 Connection established\r\n\r\n")
  }

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
    guard request.method == "CONNECT" else {
      throw .methodNotAllowed(hasBody: request.method != "HEAD", canGoOn: canGoOn)
    }
    let target = try request.target()
    let user = try verifiedUser(request, canGoOn: canGoOn)
    state = .ended
    return .open(target, user: user)
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
