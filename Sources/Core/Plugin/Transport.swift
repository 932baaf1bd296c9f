import Logging
import NIOCore

/// A way to carry byte streams between hosts.
///
/// A transport is built from one entry under `transports:` in the config, shared by every session that goes
/// through it, and called on many event loops at once.
///
/// What `connect` yields and what a listener hands to its `accept` is a NIO channel of bytes
/// (`ByteBuffer` both ways) that keeps these rules, whatever lies below:
///
/// - It reads nothing until `read()` is called: `autoRead` is off, and each `read()` asks for one batch.
/// - The peer's end of stream arrives as `ChannelEvent.inputClosed`, and `close(mode: .output)` sends one;
///   the other direction goes on.
/// - An end that is not clean (reset, truncated TLS, lost connection) arrives as an error, by `errorCaught`,
///   before `channelInactive`.
/// - The outbound user event `StreamAbort` ends it so that the peer sees an error and not a clean end. A
///   channel that fails the event as unsupported is closed with `SO_LINGER` 0 instead, which is right for a
///   plain socket.
/// - It is not writable while more bytes wait in it than `buffer` allows.
public protocol Transport: Sendable {
  /// What its config entry may hold beside the keys that every transport has
  /// (`name`, `type`, `user`, `password`, `buffer`, `connect_timeout`).
  associatedtype Options: Decodable & Sendable = NoOptions
  /// The end that accepts streams; `NoListener` for a transport that only connects.
  associatedtype Listener: TransportListener = NoListener

  /// The name in the config: the value of `type:` and the scheme of `listen:`.
  static var type: String { get }

  /// Whether its streams are NIO's TCP sockets with no handler of the transport in their pipelines, so that the
  /// kernel may move their bytes past the program. Default: false.
  var yieldsPlainSockets: Bool { get }

  /// Whether a lost packet holds up its own stream alone, so that it serves on a path that loses many. Default: false.
  static var bearsLoss: Bool { get }

  /// Checks the options and reads the files they name; opens nothing.
  init(options: Options, context: TransportContext) throws

  /// Opens a stream to the target; the channel lives on `loop`.
  ///
  /// Fails with `OpenError` at `request.deadline` at the latest.
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel>

  /// Ends what the transport itself keeps open, such as pooled connections. Streams handed out may end too.
  func shutdown() async
}

extension Transport {
  /// Says no.
  public var yieldsPlainSockets: Bool { false }

  /// Says no.
  public static var bearsLoss: Bool { false }

  /// Keeps nothing open, so ends nothing.
  public func shutdown() async {}
}

/// One accepted request on its way to a transport.
public struct ConnectRequest: Sendable {
  /// Where the stream is to end.
  public var target: Target
  /// Which addresses the name may resolve to.
  public var policy: AddressPolicy
  /// When the caller gives up.
  public var deadline: NIODeadline
  /// Tells the tunnel's server which streams to count together; nil where nobody measures.
  public var leg: LegID?
  /// Where a choosing transport says which member it took; nil where nobody asks.
  public var carrier: SessionCarrier?

  /// A request made by hand, as tests do.
  public init(
    target: Target,
    policy: AddressPolicy,
    deadline: NIODeadline,
    leg: LegID? = nil,
    carrier: SessionCarrier? = nil
  ) {
    self.target = target
    self.policy = policy
    self.deadline = deadline
    self.leg = leg
    self.carrier = carrier
  }
}

/// What a transport is given when it is built.
public struct TransportContext: Sendable {
  /// The `name:` of its config entry.
  public var name: String
  /// Names the transport in its metadata.
  public var logger: Logger
  /// Where streams may live.
  public var loops: any EventLoopGroup
  /// Shared by all plugins.
  public var resolver: NameResolver
  /// `user:` and `password:` of the entry.
  public var credentials: Credentials?
  /// Most bytes that may wait in one stream, per direction.
  public var buffer: Int
  /// How much of that a stream may use by now, and where it counts what it uses.
  public var memory: StreamMemory
  /// Makes a relative path in the config relative to the config file.
  public var directory: String
  /// Where it reports whether its server can be reached.
  public var health: TransportHealth
  /// Where it tells what happens; nil where nobody listens.
  public var events: EventLog?
  /// Finds the other transports of the config.
  public var members: TransportMembers

  /// A context made by hand, as tests do.
  public init(
    name: String,
    logger: Logger,
    loops: any EventLoopGroup,
    resolver: NameResolver,
    credentials: Credentials?,
    buffer: Int,
    memory: StreamMemory = StreamMemory(),
    directory: String,
    health: TransportHealth? = nil,
    events: EventLog? = nil,
    members: TransportMembers = TransportMembers { name throws(PluginError) in
      throw PluginError("no transport is named '\(name)'")
    }
  ) {
    self.name = name
    self.logger = logger
    self.loops = loops
    self.resolver = resolver
    self.credentials = credentials
    self.buffer = buffer
    self.memory = memory
    self.directory = directory
    self.health = health ?? TransportHealth(name: name)
    self.events = events
    self.members = members
  }
}

/// The transports that another one may hold, by name.
public struct TransportMembers: Sendable {
  private let find: @Sendable (String) throws(PluginError) -> TransportMember

  /// - Parameter find: throws where none has that name, or where it holds the one that asks.
  public init(_ find: @escaping @Sendable (String) throws(PluginError) -> TransportMember) {
    self.find = find
  }

  /// The transport of that name, built. Where its entry changes, the one that asked for it is built anew.
  ///
  /// - Parameter path: the key that names it, from the config entry: `["members", "0"]`.
  /// - Throws: `PluginError` at that key.
  public func transport(named name: String, at path: [String]) throws(PluginError) -> TransportMember {
    do throws(PluginError) {
      return try find(name)
    } catch {
      throw PluginError(error.description, at: path)
    }
  }
}

/// A transport that another one holds. The runtime shuts it down, not who holds it.
public struct TransportMember: Sendable {
  /// The `name:` of its config entry.
  public var name: String
  /// The transport.
  public var transport: any Transport
  /// Whether its server can be reached.
  public var health: TransportHealth

  /// A member made by hand, as tests do.
  public init(name: String, transport: any Transport, health: TransportHealth? = nil) {
    self.name = name
    self.transport = transport
    self.health = health ?? TransportHealth(name: name)
  }

  /// The `type:` of its config entry.
  public var type: String { Swift.type(of: transport).type }
  /// Whether it serves on a path that loses many packets.
  public var bearsLoss: Bool { Swift.type(of: transport).bearsLoss }
}

/// A user name and a password; printing it shows the name alone.
public struct Credentials: Hashable, Sendable, CustomStringConvertible {
  /// Not secret.
  public var user: String
  /// Secret.
  public var password: String

  /// Credentials from their parts.
  public init(user: String, password: String) {
    self.user = user
    self.password = password
  }

  /// The name, and stars.
  public var description: String { "\(user):***" }
}

/// The end of a transport that accepts streams for one frontend.
public protocol TransportListener: Sendable {
  /// What the frontend's config entry may hold for this transport, such as `tls:`.
  associatedtype Options: Decodable & Sendable = NoOptions

  /// As `Transport.yieldsPlainSockets`, of the streams that it accepts. Default: false.
  var yieldsPlainSockets: Bool { get }

  /// Checks the options and reads the files they name; opens nothing.
  init(options: Options, context: ListenContext) throws

  /// Starts to listen, and calls `accept` on each new stream's own event loop before the stream is active.
  ///
  /// - Returns: the address as bound, with the port that the system chose where 0 was asked for.
  func bind(accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>) async throws -> ListenAddress

  /// Takes the place of a listener on the same address, with no moment in which nobody listens there.
  ///
  /// The other one has nothing left then; its streams go on, and new ones go by these options.
  /// - Returns: the address as bound; nil where this cannot be done, so that the other one has to stop first.
  func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress?

  /// Accepts nothing more; accepted streams go on.
  func stopAccepting() async

  /// Ends everything, accepted streams included.
  func close() async
}

extension TransportListener {
  /// Says no.
  public var yieldsPlainSockets: Bool { false }

  /// Takes nothing over.
  public func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress? {
    nil
  }
}

/// What a listener is given when it is built.
public struct ListenContext: Sendable {
  /// The `name:` of the frontend that listens.
  public var name: String
  /// What `listen:` says.
  public var address: ListenAddress
  /// Names the frontend in its metadata.
  public var logger: Logger
  /// Where accepted streams may live.
  public var loops: any EventLoopGroup
  /// Shared by all plugins.
  public var resolver: NameResolver
  /// Most bytes that may wait in one stream, per direction.
  public var buffer: Int
  /// How much of that a stream may use by now, and where it counts what it uses.
  public var memory: StreamMemory
  /// Makes a relative path in the config relative to the config file.
  public var directory: String

  /// A context made by hand, as tests do.
  public init(
    name: String,
    address: ListenAddress,
    logger: Logger,
    loops: any EventLoopGroup,
    resolver: NameResolver,
    buffer: Int,
    memory: StreamMemory = StreamMemory(),
    directory: String
  ) {
    self.name = name
    self.address = address
    self.logger = logger
    self.loops = loops
    self.resolver = resolver
    self.buffer = buffer
    self.memory = memory
    self.directory = directory
  }
}

/// For a plugin without keys of its own.
public struct NoOptions: Decodable, Sendable {
  /// The only value.
  public init() {}
  /// Reads no key, so that every key beside the common ones is unknown.
  public init(from decoder: any Decoder) throws {
    _ = try decoder.container(keyedBy: NoKeys.self)
  }
  private enum NoKeys: CodingKey, CaseIterable {}
}

/// The listener of a transport that cannot listen.
public struct NoListener: TransportListener {
  /// Always fails: a frontend cannot listen on such a transport.
  public init(options: NoOptions, context: ListenContext) throws {
    throw PluginError("\(context.address.scheme) can connect but not listen")
  }
  /// Never called, for there is no such listener.
  public func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    throw PluginError("this transport can connect but not listen")
  }
  /// Nothing to stop.
  public func stopAccepting() async {}
  /// Nothing to close.
  public func close() async {}
}

/// What a plugin found wrong with its options, in one line for the person who wrote them.
public struct PluginError: Error, CustomStringConvertible {
  /// What is wrong and what would be right.
  public var description: String
  /// The key that is at fault, as a path from the config entry: `["tls", "certificate"]`. Empty for the entry.
  public var path: [String]

  /// - Parameter path: the key at fault, from the config entry.
  public init(_ description: String, at path: [String] = []) {
    self.description = description
    self.path = path
  }
}

/// Outbound user event: end the stream so that the peer sees an error, at once, whatever still waits.
public struct StreamAbort: Sendable {
  /// For the log of this end; the peer sees an error code at most.
  public var reason: String
  /// An abort for a reason.
  public init(reason: String) {
    self.reason = reason
  }
}
