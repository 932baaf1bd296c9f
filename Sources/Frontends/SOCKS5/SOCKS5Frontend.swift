import MagicalaneCore
import NIOCore

/// SOCKS version 5 (RFC 1928) with CONNECT, for everyone or with user names and passwords (RFC 1929).
///
/// NIOSOCKS of swift-nio-extras is not used: its server side knows no user/password sub-negotiation, takes one
/// message per read where a client may send all of them at once, and keeps the payload behind without bound.
public struct SOCKS5Frontend: Frontend {
  /// `type: socks5`.
  public static let type = "socks5"

  private let users: UserList?

  /// Never fails: there is nothing to set.
  public init(options: NoOptions, context: FrontendContext) {
    users = context.users
  }

  /// A handshake that starts with the client's greeting.
  public func makeHandshake() -> some FrontendHandshake {
    SOCKS5Handshake(users: users)
  }
}

/// The server's side of one SOCKS5 handshake.
///
///     greeting ── 05 00 ──────────────────────────────► request ── CONNECT ──► ended
///         ├── 05 02 ──► credentials ── 01 00 ─────────────┘  └── reply code ──► ended
///         └── 05 FF ──► ended   └── 01 01 ──► ended
///
/// The longest message has 513 bytes, so what waits for the rest of one is bounded by that.
struct SOCKS5Handshake: FrontendHandshake {
  private enum State {
    case greeting
    case credentials
    case request(user: String?)
    case ended
  }

  private var state = State.greeting
  private let users: UserList?

  init(users: UserList?) {
    self.users = users
  }

  mutating func receive(_ bytes: inout ByteBuffer) -> HandshakeStep {
    // A cheap copy: reading from it moves indices only, and the original stays as it is where bytes are missing.
    var rest = bytes
    guard let step = read(&rest) else { return .needMore }
    bytes = rest
    return step
  }

  mutating func accepted() -> ByteBuffer {
    SOCKS5Reply.succeeded.message
  }

  mutating func refused(_ error: OpenError) -> ByteBuffer {
    SOCKS5Reply(error.kind).message
  }

  private mutating func read(_ bytes: inout ByteBuffer) -> HandshakeStep? {
    switch state {
    case .greeting: readGreeting(&bytes)
    case .credentials: readCredentials(&bytes)
    case .request(let user): readRequest(&bytes, user: user)
    case .ended: nil
    }
  }

  /// VER, NMETHODS, METHODS (RFC 1928 §3).
  private mutating func readGreeting(_ bytes: inout ByteBuffer) -> HandshakeStep? {
    guard let version: UInt8 = bytes.readInteger() else { return nil }
    guard version == 5 else { return refuseOtherProtocol(version) }
    guard let methods = bytes.readField() else { return nil }
    guard let method = choose(from: methods) else {
      return refuse(
        ByteBuffer(bytes: [5, 0xff]),
        "the client offers no authentication method that is allowed"
      )
    }
    state = method == .none ? .request(user: nil) : .credentials
    return .send(ByteBuffer(bytes: [5, method.rawValue]))
  }

  /// Where everyone may come in, a client that insists on giving a password may do so.
  private func choose(from offered: ByteBuffer) -> SOCKS5Method? {
    let allowed: [SOCKS5Method] = users == nil ? [.none, .userAndPassword] : [.userAndPassword]
    return allowed.first { offered.readableBytesView.contains($0.rawValue) }
  }

  /// VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929 §2).
  private mutating func readCredentials(_ bytes: inout ByteBuffer) -> HandshakeStep? {
    let failure = ByteBuffer(bytes: [1, 1])
    guard let version: UInt8 = bytes.readInteger() else { return nil }
    guard version == 1 else { return refuse(failure, "authentication of an unknown version \(version)") }
    guard let name = bytes.readField(), let password = bytes.readField() else { return nil }
    let success = HandshakeStep.send(ByteBuffer(bytes: [1, 0]))
    guard let users else {
      state = .request(user: nil)
      return success
    }
    // Bytes that are not UTF-8 are nobody's name; repairing them might make them somebody's.
    guard let name = String(validating: name.readableBytesView, as: UTF8.self),
      let password = String(validating: password.readableBytesView, as: UTF8.self),
      users.verify(user: name, password: password)
    else { return refuse(failure, "wrong user name or password") }
    state = .request(user: name)
    return success
  }

  private mutating func readRequest(_ bytes: inout ByteBuffer, user: String?) -> HandshakeStep? {
    switch SOCKS5Request.read(&bytes) {
    case .incomplete:
      return nil
    case .connect(let target):
      state = .ended
      return .open(target, user: user)
    case .invalid(let reply, let reason):
      return refuse(reply.message, reason)
    }
  }

  private mutating func refuse(_ message: ByteBuffer?, _ reason: String) -> HandshakeStep {
    state = .ended
    return .refuse(message, reason: reason)
  }

  /// Tells a client that speaks something else so in its own language, as far as its first byte shows it.
  private mutating func refuseOtherProtocol(_ first: UInt8) -> HandshakeStep {
    switch first {
    case 4:
      return refuse(ByteBuffer(bytes: [0, 0x5b, 0, 0, 0, 0, 0, 0]), "SOCKS4, where SOCKS5 is spoken")
    case UInt8(ascii: "A")...UInt8(ascii: "Z"):
      let fault = HTTPConnectFault.badRequest("an HTTP request to a SOCKS5 proxy, which does not speak HTTP")
      return refuse(fault.response.bytes, fault.reason)
    case 0x16:
      return refuse(nil, "TLS, where SOCKS5 is spoken")
    default:
      return refuse(nil, "no SOCKS5")
    }
  }
}
