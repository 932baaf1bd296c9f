import Logging
import NIOCore

/// The protocol in which clients ask for a destination.
///
/// A frontend is built from one entry under `frontends:`; it makes one handshake for each accepted stream.
public protocol Frontend: Sendable {
  /// What its config entry may hold beside the keys that every frontend has
  /// (`name`, `type`, `listen`, `transport`, `users`, `open`, `allow_local_targets`, `buffer`,
  /// `handshake_timeout`, `idle_timeout`) and those of the transport that listens (`tls`).
  associatedtype Options: Decodable & Sendable = NoOptions
  associatedtype Handshake: FrontendHandshake

  /// The value of `type:` in the config.
  static var type: String { get }

  /// Checks the options; opens nothing.
  init(options: Options, context: FrontendContext) throws

  /// The handshake for one new stream.
  func makeHandshake() -> Handshake
}

/// What a frontend is given when it is built.
public struct FrontendContext: Sendable {
  /// The `name:` of its config entry.
  public var name: String
  /// Names the frontend in its metadata.
  public var logger: Logger
  /// Who may use it; nil where everyone may.
  public var users: UserList?

  /// A context made by hand, as tests do.
  public init(name: String, logger: Logger, users: UserList?) {
    self.name = name
    self.logger = logger
    self.users = users
  }
}

/// A frontend's side of one handshake: bytes in, steps out; no channel and no clock.
///
/// The session calls it in this order, always on the stream's event loop:
///
///     receive* ── .open ──► accepted | refused ──► nothing more
///         └────── .refuse ──► nothing more
public protocol FrontendHandshake {
  /// Reads what it can from the front of `bytes` and says what to do next.
  ///
  /// It is called again after `.send`, and with more bytes after `.needMore`; it must leave the bytes of an
  /// unfinished message in place, take a message that it finished, and leave everything behind the last one
  /// untouched: that is the stream's payload. What it leaves is bounded by it: it refuses a message that
  /// grows over its limit.
  mutating func receive(_ bytes: inout ByteBuffer) -> HandshakeStep

  /// The reply once the stream to the target is open, or once the reports may begin.
  mutating func accepted() -> ByteBuffer

  /// The reply when the stream to the target could not be opened.
  mutating func refused(_ error: OpenError) -> ByteBuffer

  /// What the client says that this stream belongs to, once `.open` was said; nil where it says nothing.
  var leg: LegID? { get }
}

extension FrontendHandshake {
  /// Nothing.
  public var leg: LegID? { nil }
}

/// What a handshake wants next.
public enum HandshakeStep: Sendable {
  /// The message at the front is not complete.
  case needMore
  /// Send these bytes and call again.
  case send(ByteBuffer)
  /// The client asks for this target, as this user where it gave a name that was verified.
  case open(Target, user: String?)
  /// The client asks what this end sees of that leg (docs/path-reports.md).
  case report(LegID, user: String?)
  /// Send these bytes, if any, and close: the client broke the protocol or may not come in.
  case refuse(ByteBuffer?, reason: String)
}

/// The users of one frontend.
public struct UserList: Sendable {
  private let users: [Credentials]

  /// The users of a frontend; names may not repeat.
  public init(_ users: [Credentials]) {
    self.users = users
  }

  /// Whether name and password belong together. It takes as long for a wrong name as for a wrong password.
  public func verify(user: String, password: String) -> Bool {
    users.reduce(false) { found, known in
      let sameUser = known.user.equalsInConstantTime(user)
      let samePassword = known.password.equalsInConstantTime(password)
      return found || (sameUser && samePassword)
    }
  }
}

extension String {
  /// Compares without telling by its duration how many leading bytes agree; only the length of `other` shows.
  public func equalsInConstantTime(_ other: String) -> Bool {
    let mine = Array(utf8)
    var difference: UInt8 = mine.count == other.utf8.count ? 0 : 1
    for (index, byte) in other.utf8.enumerated() {
      difference |= byte ^ (mine.isEmpty ? 0 : mine[index % mine.count])
    }
    return difference == 0
  }
}
