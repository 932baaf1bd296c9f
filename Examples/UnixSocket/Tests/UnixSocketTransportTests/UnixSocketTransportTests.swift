import Foundation
import Logging
import MagicalaneCore
import MagicalaneFrontends
import MagicalaneTransports
import NIOCore
import NIOPosix
import Testing
import UnixSocketTransport

@Suite struct UnixSocketTransportTests {
  private let loops = MultiThreadedEventLoopGroup.singleton

  private var registry: Registry {
    var registry = Registry()
    registry.register(HTTPConnectFrontend.self)
    registry.register(TCPTransport.self)
    registry.register(UnixSocketTransport.self)
    return registry
  }

  private func load(_ text: String) throws -> Configuration {
    try Configuration.load(text: text, file: "test.yaml", registry: registry, environment: [:])
  }

  @Test func `a path that no socket can have is refused where the config says it`() async throws {
    let path = String(repeating: "x", count: 108)
    let configuration = try load("transports: [{name: far, type: unix, path: /\(path)}]")
    let runtime = Runtime(loops: loops, logger: Logger(label: "test"))
    let error = await #expect(throws: RuntimeErrors.self) { try await runtime.check(configuration) }
    #expect(error?.errors.first?.problem.path == ["transports", "0", "path"])
  }

  /// Client → unix socket → server → echo: the whole way, with the program's own runtime at both ends.
  @Test func `bytes cross a tunnel over a Unix-domain socket`() async throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "m-\(UUID().uuidString.prefix(8)).sock")
      .path
    let echo = try await ServerBootstrap(group: loops)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    let server = Runtime(loops: loops, logger: Logger(label: "server"))
    try await server.apply(load("frontends: [{name: far, type: http, listen: \"unix://\(path)\"}]"))
    let client = Runtime(loops: loops, logger: Logger(label: "client"))
    try await client.apply(
      load(
        """
        frontends: [{name: near, type: http, listen: "tcp://127.0.0.1:0", transport: far}]
        transports: [{name: far, type: unix, path: "\(path)"}]
        """
      )
    )

    let port = try #require(await client.listening.first?.address.hostAndPort?.port)
    let target = try #require(echo.localAddress?.port)
    let answer = try await ask("CONNECT 127.0.0.1:\(target) HTTP/1.1\r\nHost: x\r\n\r\nhello", port: port)
    #expect(answer.hasPrefix("HTTP/1.1 200"))
    #expect(answer.hasSuffix("\r\n\r\nhello"))
    _ = await client.drain()
    _ = await server.drain()
    try await echo.close()
  }

  /// Sends a text, and returns what came back once it ends with `hello`.
  private func ask(_ text: String, port: Int) async throws -> String {
    let done = loops.next().makePromise(of: String.self)
    let channel = try await ClientBootstrap(group: loops)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(Collect(until: "hello", done))
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    try await channel.writeAndFlush(ByteBuffer(string: text))
    let answer = try await done.futureResult.get()
    try await channel.close()
    return answer
  }
}

private final class Echo: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.writeAndFlush(data, promise: nil)
  }
}

private final class Collect: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let end: String
  private let done: EventLoopPromise<String>
  private var text = ""

  init(until end: String, _ done: EventLoopPromise<String>) {
    self.end = end
    self.done = done
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    text += String(buffer: unwrapInboundIn(data))
    if text.hasSuffix(end) { done.succeed(text) }
  }

  func channelInactive(context: ChannelHandlerContext) {
    done.fail(ChannelError.eof)
  }
}
