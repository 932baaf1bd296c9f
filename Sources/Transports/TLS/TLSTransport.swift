import MagicalaneCore
import NIOCore

/// Streams over TLS 1.3 to a tunnel's server: TCP plus one handler.
public struct TLSTransport: TunnelTransport {
  /// The end that accepts.
  public typealias Listener = TLSListener

  /// The keys of its config entry.
  public struct Options: Decodable, Sendable {
    var server: Target
    var tls: TLSClientOptions?
    /// Most connections that each event loop keeps ready for coming sessions; default 8.
    var warm: Int?
  }

  /// The name in the config.
  public static let type = "tls"
  /// On TLS a tunnel's stream is an ordinary HTTP/1.1 connection (RFC 7301 §6).
  static let applicationProtocol = "http/1.1"

  /// What the server is told.
  public let credentials: Credentials?
  /// Told of each attempt to reach the server.
  public let health: TransportHealth?
  private let dialer: TLSDialer
  private let pools: WarmPools

  /// - Throws: `PluginError` that names the key, and the file, at fault.
  public init(options: Options, context: TransportContext) throws {
    credentials = context.credentials
    health = context.health
    dialer = TLSDialer(
      server: options.server,
      resolver: context.resolver,
      socket: TCPSocket(buffer: context.buffer, memory: context.memory),
      credentials: try TLSClientCredentials(
        options: options.tls ?? TLSClientOptions(),
        host: options.server.host,
        directory: context.directory,
        logger: context.logger
      ),
      metrics: TLSMetrics(transport: context.name)
    )
    let warm = options.warm ?? 8
    guard (0...64).contains(warm) else {
      throw PluginError("warm must be between 0 and 64, not \(warm)", at: ["warm"])
    }
    pools = WarmPools(limit: warm, dialer: dialer)
  }

  /// Opens a connection and completes its handshake; see `TunnelTransport`.
  public func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    dialer.open(deadline: deadline, on: loop)
  }

  /// Asks for the target on a connection that is warm, where there is one.
  ///
  /// A warm one may have broken without anybody seeing it yet. Then the request goes out once more on a new one:
  /// its server said nothing, and not a byte of the session was sent.
  public func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    guard loop.inEventLoop else { return loop.flatSubmit { connect(request, on: loop) } }
    var taken: WarmConnection?
    let opened = connectThroughServer(request, on: loop) {
      taken = pools.take(on: loop)
      return taken.map { loop.makeSucceededFuture($0.channel) }
    }
    guard let taken else { return opened }
    return opened.assumeIsolated().flatMapError { error in
      guard !taken.hasAnswered, loop.now < request.deadline else { return loop.makeFailedFuture(error) }
      return connectThroughServer(request, on: loop)
    }.nonisolated()
  }

  /// How many connections of this loop wait for sessions; called on the loop.
  func warmCount(on loop: any EventLoop) -> Int {
    pools.count(on: loop)
  }

  /// Closes the connections that wait for sessions.
  public func shutdown() async {
    await pools.shutDown()
  }
}
