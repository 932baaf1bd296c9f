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
  }

  /// The name in the config.
  public static let type = "tls"
  /// On TLS a tunnel's stream is an ordinary HTTP/1.1 connection (RFC 7301 §6).
  static let applicationProtocol = "http/1.1"

  /// What the server is told.
  public let credentials: Credentials?
  /// Told of each attempt to reach the server.
  public let health: TransportHealth?
  private let server: Target
  private let resolver: NameResolver
  private let socket: TCPSocket
  private let tls: TLSClientCredentials
  private let tickets = SessionTickets()
  private let metrics: TLSMetrics

  /// - Throws: `PluginError` that names the key, and the file, at fault.
  public init(options: Options, context: TransportContext) throws {
    server = options.server
    credentials = context.credentials
    health = context.health
    resolver = context.resolver
    socket = TCPSocket(buffer: context.buffer)
    metrics = TLSMetrics(transport: context.name)
    tls = try TLSClientCredentials(
      options: options.tls ?? TLSClientOptions(),
      host: options.server.host,
      directory: context.directory,
      logger: context.logger
    )
  }

  /// Opens a connection and completes its handshake; see `TunnelTransport`.
  public func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    resolver.open(server, deadline: deadline, on: loop) { address in
      connect(to: address, deadline: deadline, on: loop)
    }
  }

  private func connect(
    to address: SocketAddress,
    deadline: NIODeadline,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel> {
    let handshake = loop.makePromise(of: Void.self)
    let connected = socket.connect(to: address, deadline: deadline, on: loop) { channel in
      channel.eventLoop.makeCompletedFuture {
        let session = try TLSSession(
          .client(tls, ticket: tickets.take()),
          applicationProtocol: TLSTransport.applicationProtocol
        )
        let handler = GnuTLSHandler(
          session,
          tickets: tickets,
          handshakePromise: handshake,
          metrics: metrics
        )
        try channel.pipeline.syncOperations.addHandler(handler)
      }
    }
    // Where no handler came to hold the promise, this completes it.
    connected.whenFailure { handshake.fail($0) }
    return connected.flatMap { channel in
      let timer = loop.scheduleTask(deadline: deadline) {
        handshake.fail(OpenError(.timedOut, "the server did not complete the TLS handshake in time"))
      }
      handshake.futureResult.whenComplete { result in
        timer.cancel()
        if case .failure = result { channel.close(promise: nil) }
      }
      return handshake.futureResult.map { channel }
    }.flatMapErrorThrowing { error in
      guard let error = error as? TLSError else { throw error }
      throw OpenError(.failed, "TLS with the server failed: \(error)", cause: error)
    }
  }
}
