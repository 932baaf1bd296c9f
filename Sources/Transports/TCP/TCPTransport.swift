import MagicalaneCore
import NIOCore

/// Streams over plain TCP: straight to the target, or through a server that takes CONNECT requests.
public struct TCPTransport: TunnelTransport {
  /// The end that accepts.
  public typealias Listener = TCPListener

  /// The keys of its config entry.
  public struct Options: Decodable, Sendable {
    /// The tunnel's server; without one the transport connects to the target itself.
    public var server: Target?

    /// Options as the config would hold them.
    public init(server: Target? = nil) {
      self.server = server
    }
  }

  /// The name in the config.
  public static let type = "tcp"
  /// What the tunnel's server is told; of no use without a server.
  public let credentials: Credentials?
  /// Told of each attempt to reach the server.
  public let health: TransportHealth?
  private let server: Target?
  private let resolver: NameResolver
  private let socket: TCPSocket

  /// A tunnel's handler leaves when its request is answered, so its streams are plain too.
  public var yieldsPlainSockets: Bool { true }

  /// Never throws; opens nothing.
  public init(options: Options, context: TransportContext) throws {
    server = options.server
    credentials = context.credentials
    health = context.health
    resolver = context.resolver
    socket = TCPSocket(buffer: context.buffer, memory: context.memory)
  }

  /// Connects to the target, or to the server that is then asked for it; see `Transport`.
  public func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    guard server == nil else { return connectThroughServer(request, on: loop) }
    return open(request.target, policy: request.policy, deadline: request.deadline, on: loop)
  }

  /// Connects to the server; see `TunnelTransport`.
  public func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    guard let server else {
      return loop.makeFailedFuture(OpenError(.failed, "this transport has no server"))
    }
    return open(server, policy: .unrestricted, deadline: deadline, on: loop)
  }

  private func open(
    _ target: Target,
    policy: AddressPolicy,
    deadline: NIODeadline,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel> {
    let socket = socket
    return resolver.open(target, policy: policy, deadline: deadline, on: loop) { address in
      socket.connect(to: address, deadline: deadline, on: loop)
    }
  }
}
