import MagicalaneCore
import NIOCore
import NIOPosix

/// Carries streams over Unix-domain sockets: to a magicalane in another container, say.
public struct UnixSocketTransport: TunnelTransport {
  public typealias Listener = UnixSocketListener

  /// The keys of its entry under `transports:`.
  public struct Options: Decodable, Sendable {
    /// The socket on which the other magicalane listens.
    var path: String
  }

  public static let type = "unix"
  public let credentials: Credentials?
  private let path: String
  private let buffer: Int

  public init(options: Options, context: TransportContext) throws {
    guard options.path.utf8.count <= 107 else { throw PluginError("longer than 107 bytes", at: ["path"]) }
    path = options.path
    credentials = context.credentials
    buffer = context.buffer
  }

  public func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    ClientBootstrap(group: loop)
      .connectTimeout(max(deadline - .now(), .milliseconds(1)))
      .channelOption(.autoRead, value: false)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelOption(.writeBufferWaterMark, value: .init(low: buffer / 4, high: buffer / 2))
      .connect(unixDomainSocketPath: path)
  }
}

/// Accepts streams on `listen: unix:///path`.
public final class UnixSocketListener: TransportListener {
  private let context: ListenContext
  private let listening = OpenChannels()

  public init(options: NoOptions, context: ListenContext) throws {
    self.context = context
  }

  public func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    let socket = try await ServerBootstrap(group: context.loops)
      .childChannelOption(.autoRead, value: false)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.writeBufferWaterMark, value: .init(low: context.buffer / 4, high: context.buffer / 2))
      .childChannelInitializer(accept)
      .bind(unixDomainSocketPath: context.address.location, cleanupExistingSocketFile: true)
      .get()
    await listening.add(socket)
    return context.address
  }

  public func stopAccepting() async {
    await listening.close()
  }

  public func close() async {
    await listening.close()
  }
}

private actor OpenChannels {
  private var channels: [any Channel] = []

  func add(_ channel: any Channel) { channels.append(channel) }

  func close() async {
    for channel in channels { try? await channel.close().get() }
    channels = []
  }
}
