import MagicalaneCore
import NIOCore
import NIOPosix

/// Carries streams over Unix-domain sockets: to a magicalane in another container, say.
package struct UnixSocketTransport: TunnelTransport {
  package typealias Listener = UnixSocketListener

  /// The keys of its entry under `transports:`.
  package struct Options: Decodable, Sendable {
    /// The socket on which the other magicalane listens.
    var path: String
  }

  package static let type = "unix"
  package let credentials: Credentials?
  private let path: String
  private let buffer: Int

  package init(options: Options, context: TransportContext) throws {
    guard options.path.utf8.count <= 107 else { throw PluginError("longer than 107 bytes", at: ["path"]) }
    path = options.path
    credentials = context.credentials
    buffer = context.buffer
  }

  package func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    ClientBootstrap(group: loop)
      .connectTimeout(max(deadline - .now(), .milliseconds(1)))
      .channelOption(.autoRead, value: false)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelOption(.writeBufferWaterMark, value: .init(low: buffer / 4, high: buffer / 2))
      .connect(unixDomainSocketPath: path)
  }
}

/// Accepts streams on `listen: unix:///path`.
package actor UnixSocketListener: TransportListener {
  private let context: ListenContext
  private var socket: (any Channel)?

  package init(options: NoOptions, context: ListenContext) throws {
    self.context = context
  }

  package func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    let buffer = context.buffer
    socket = try await ServerBootstrap(group: context.loops)
      .childChannelOption(.autoRead, value: false)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.writeBufferWaterMark, value: .init(low: buffer / 4, high: buffer / 2))
      .childChannelInitializer(accept)
      .bind(unixDomainSocketPath: context.address.location, cleanupExistingSocketFile: true)
      .get()
    return context.address
  }

  package func stopAccepting() async {
    try? await socket?.close().get()
    socket = nil
  }

  package func close() async {
    await stopAccepting()
  }
}
