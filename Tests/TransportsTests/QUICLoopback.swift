import Logging
import MagicalaneCore
import NIOCore
import NIOPosix
import Testing

@testable import MagicalaneTransports

/// A listener and a transport that talk over loopback.
final class QUICLoopback: Sendable {
  let group: MultiThreadedEventLoopGroup
  let resolver = NameResolver(threads: 2)
  let listener: QUICListener
  let credentials: QUICTestCredentials.Pair

  init(
    loops: Int = 2,
    buffer: Int = 16 << 20,
    host: String = "127.0.0.1:0",
    _ change: (inout QUICListener.Options) -> Void = { _ in }
  ) throws {
    credentials = try QUICTestCredentials.pair()
    group = MultiThreadedEventLoopGroup(numberOfThreads: loops)
    var options = QUICListener.Options(
      tls: TLSServerOptions(certificate: credentials.certificate, key: credentials.key)
    )
    change(&options)
    listener = try QUICListener(
      options: options,
      context: ListenContext(
        name: "test",
        address: ListenAddress(scheme: "quic", location: host),
        logger: Logger(label: "quic.server"),
        loops: group,
        resolver: resolver,
        buffer: buffer,
        directory: "/"
      )
    )
  }

  func transport(
    to address: ListenAddress,
    pin: String? = nil,
    buffer: Int = 16 << 20,
    host: String? = nil,
    _ change: (inout QUICTransport.Options) -> Void = { _ in }
  ) throws -> QUICTransport {
    let server = try #require(Target(address.location))
    var options = QUICTransport.Options(
      server: server,
      tls: TLSClientOptions(pinSha256: [pin ?? credentials.pin])
    )
    change(&options)
    return try QUICTransport(
      options: options,
      context: TransportContext(
        name: "test",
        logger: Logger(label: "quic.client"),
        loops: group,
        resolver: resolver,
        credentials: nil,
        buffer: buffer,
        directory: "/"
      )
    )
  }

  func end() async throws {
    await listener.close()
    try await group.shutdownGracefully()
  }
}

/// Sends back what it gets, and the end of it.
final class EchoHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  func channelActive(context: ChannelHandlerContext) { context.read() }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.writeAndFlush(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if context.channel.isWritable { context.read() }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event as? ChannelEvent == .inputClosed { context.close(mode: .output, promise: nil) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}

/// Gathers what a stream brings, up to its end.
final class Gathering: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private var bytes = ByteBuffer()
  private let done: EventLoopPromise<ByteBuffer>

  init(_ done: EventLoopPromise<ByteBuffer>) {
    self.done = done
  }

  func handlerAdded(context: ChannelHandlerContext) { context.read() }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var more = unwrapInboundIn(data)
    bytes.writeBuffer(&more)
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.read() }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event as? ChannelEvent == .inputClosed { done.succeed(bytes) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { done.fail(error) }

  func channelInactive(context: ChannelHandlerContext) { done.fail(ChannelError.eof) }
}

extension Channel {
  /// Sends all of it and the end, and returns what came back.
  func exchange(_ bytes: ByteBuffer) async throws -> ByteBuffer {
    try await eventLoop.flatSubmit {
      let done = self.eventLoop.makePromise(of: ByteBuffer.self)
      do {
        try self.pipeline.syncOperations.addHandler(Gathering(done))
      } catch {
        done.fail(error)
      }
      self.writeAndFlush(bytes, promise: nil)
      self.close(mode: .output, promise: nil)
      return done.futureResult
    }.get()
  }
}

func echo(_ channel: any Channel) -> EventLoopFuture<Void> {
  channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(EchoHandler()) }
}
