import Logging
import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import MagicalaneTransports

/// Sends back what it gets, and the end of the stream behind it.
private final class Echo: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  func channelActive(context: ChannelHandlerContext) {
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.writeAndFlush(wrapOutboundOut(unwrapInboundIn(data)), promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.read()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed? = event as? ChannelEvent else { return }
    // A socket whose input has ended takes this close for a full one, and a full one drops what waits.
    context.writeAndFlush(wrapOutboundOut(ByteBuffer())).assumeIsolated().whenSuccess {
      context.close(mode: .output, promise: nil)
    }
  }
}

/// Gathers a stream until its end.
private final class Gatherer: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let promise: EventLoopPromise<ByteBuffer>
  private var bytes = ByteBuffer()

  init(_ promise: EventLoopPromise<ByteBuffer>) {
    self.promise = promise
  }

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var batch = unwrapInboundIn(data)
    bytes.writeBuffer(&batch)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.read()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent { promise.succeed(bytes) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    // Our output is closed, so that a NIO socket closes at the peer's end of stream without `inputClosed`.
    promise.succeed(bytes)
  }
}

@Suite("TCP and TLS over loopback")
struct LoopbackTests {
  private static let loops = MultiThreadedEventLoopGroup(numberOfThreads: 2)
  private let logger = TLSTestCredentials.quiet
  private let resolver = NameResolver(threads: 1)

  private func listenContext(_ scheme: String, _ location: String, directory: String = "") -> ListenContext {
    ListenContext(
      name: "test",
      address: ListenAddress(scheme: scheme, location: location),
      logger: logger,
      loops: LoopbackTests.loops,
      resolver: resolver,
      buffer: 1 << 20,
      directory: directory
    )
  }

  private func transportContext(directory: String = "") -> TransportContext {
    TransportContext(
      name: "test",
      logger: logger,
      loops: LoopbackTests.loops,
      resolver: resolver,
      credentials: nil,
      buffer: 1 << 20,
      directory: directory
    )
  }

  private var deadline: NIODeadline { .now() + .seconds(10) }

  private func request(_ address: ListenAddress) throws -> ConnectRequest {
    ConnectRequest(target: try #require(Target(address.location)), policy: .unrestricted, deadline: deadline)
  }

  @Sendable
  private static func echo(_ channel: any Channel) -> EventLoopFuture<Void> {
    channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
  }

  /// Sends bytes and an end of stream, and returns what comes back.
  private func exchange(_ bytes: ByteBuffer, over channel: any Channel) async throws -> ByteBuffer {
    let promise = channel.eventLoop.makePromise(of: ByteBuffer.self)
    try await channel.eventLoop.submit {
      try channel.pipeline.syncOperations.addHandler(Gatherer(promise))
      channel.writeAndFlush(bytes, promise: nil)
      channel.close(mode: .output, promise: nil)
    }.get()
    let answer = try await promise.futureResult.get()
    channel.close(promise: nil)
    return answer
  }

  @Test(
    "a direct stream carries bytes both ways and ends by halves",
    arguments: ["127.0.0.1:0", "[::1]:0", "localhost:0", "[::]:0", "0.0.0.0:0"]
  )
  func direct(location: String) async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", location))
    let address = try await listener.bind(accept: LoopbackTests.echo)
    #expect(address.scheme == "tcp")
    let transport = try TCPTransport(options: .init(), context: transportContext())
    let bytes = ByteBuffer(repeating: 7, count: 3 << 20)
    let channel = try await transport.connect(request(address), on: LoopbackTests.loops.next()).get()
    #expect(try await exchange(bytes, over: channel) == bytes)
    await listener.close()
  }

  @Test("[::] takes IPv4 too")
  func everyFamily() async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", "[::]:0"))
    let port = try #require(try await listener.bind(accept: LoopbackTests.echo).hostAndPort?.port)
    let transport = try TCPTransport(options: .init(), context: transportContext())
    let four = ListenAddress(scheme: "tcp", location: "127.0.0.1:\(port)")
    let channel = try await transport.connect(request(four), on: LoopbackTests.loops.next()).get()
    #expect(try await exchange(ByteBuffer(string: "four"), over: channel) == ByteBuffer(string: "four"))
    await listener.close()
  }

  @Test("a TLS stream carries bytes both ways and ends by halves, and the next one is resumed")
  func tls() async throws {
    let directory = try TemporaryDirectory()
    let certificate = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
    _ = try certificate.write(to: directory.path)
    let listener = try TLSListener(
      options: .init(tls: TLSServerOptions(certificate: "cert.pem", key: "key.pem")),
      context: listenContext("tls", "127.0.0.1:0", directory: directory.path)
    )
    let address = try await listener.bind(accept: LoopbackTests.echo)
    let server = try #require(Target(address.location))
    let transport = try TLSTransport(
      options: .init(server: server, tls: TLSClientOptions(ca: "cert.pem")),
      context: transportContext(directory: directory.path)
    )
    let bytes = ByteBuffer(repeating: 7, count: 3 << 20)
    for isResumed in [false, true] {
      let channel = try await transport.openStream(deadline: deadline, on: LoopbackTests.loops.next()).get()
      let resumed = try await channel.eventLoop.submit {
        try channel.pipeline.syncOperations.handler(type: GnuTLSHandler.self).isResumed
      }.get()
      #expect(resumed == isResumed)
      #expect(try await exchange(bytes, over: channel) == bytes)
    }
    await listener.close()
  }

  /// Answers CONNECT requests, but closes without a word for as many as `breaking` says.
  private final class ConnectAnswer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let breaking: NIOLockedValueBox<Int>

    init(breaking: NIOLockedValueBox<Int>) {
      self.breaking = breaking
    }

    func channelActive(context: ChannelHandlerContext) {
      context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let isBroken = breaking.withLockedValue { left in
        defer { left = max(left - 1, 0) }
        return left > 0
      }
      if isBroken { return context.close(promise: nil) }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "HTTP/1.1 200 OK\r\n\r\n")), promise: nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case .inputClosed? = event as? ChannelEvent { context.close(promise: nil) }
    }
  }

  @Test("a session takes a warm connection, and does not see that one was broken", .timeLimit(.minutes(1)))
  func warm() async throws {
    let directory = try TemporaryDirectory()
    _ = try SelfSignedCertificate.make(hosts: ["127.0.0.1"]).write(to: directory.path)
    let listener = try TLSListener(
      options: .init(tls: TLSServerOptions(certificate: "cert.pem", key: "key.pem")),
      context: listenContext("tls", "127.0.0.1:0", directory: directory.path)
    )
    let accepted = NIOLockedValueBox(0)
    let breaking = NIOLockedValueBox(0)
    let address = try await listener.bind { channel in
      accepted.withLockedValue { $0 += 1 }
      return channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(ConnectAnswer(breaking: breaking))
      }
    }
    let transport = try TLSTransport(
      options: .init(
        server: #require(Target(address.location)),
        tls: TLSClientOptions(ca: "cert.pem"),
        warm: 1
      ),
      context: transportContext(directory: directory.path)
    )
    let loop = LoopbackTests.loops.next()
    var opened: [any Channel] = []
    for number in 0..<4 {
      if number == 2 { breaking.withLockedValue { $0 = 1 } }
      opened.append(try await transport.connect(request(address), on: loop).get())
      // From the second on each has a successor made ready.
      while number > 0, try await loop.submit({ transport.warmCount(on: loop) }).get() == 0 {
        // A machine that stands still for as long as a warm connection lives gets none any more.
        try Task.checkCancellation()
        await Task.yield()
      }
    }
    // Two of their own, a broken one and the one in its place, a warm one, and one that waits still.
    let active = opened.count { $0.isActive }
    #expect(active == 4)
    let total = accepted.withLockedValue { $0 }
    #expect(total == 6)
    await transport.shutdown()
    #expect(try await loop.submit({ transport.warmCount(on: loop) }).get() == 0)
    for channel in opened { try? await channel.close().get() }
    await listener.close()
  }

  @Test("a server that refuses, or that is not to be trusted, fails the stream with the reason")
  func tlsFailures() async throws {
    let directory = try TemporaryDirectory()
    _ = try SelfSignedCertificate.make(hosts: ["127.0.0.1"]).write(to: directory.path)
    let listener = try TLSListener(
      options: .init(tls: TLSServerOptions(certificate: "cert.pem", key: "key.pem")),
      context: listenContext("tls", "127.0.0.1:0", directory: directory.path)
    )
    let server = try #require(Target(try await listener.bind(accept: LoopbackTests.echo).location))
    let transport = try TLSTransport(
      options: .init(server: server, tls: TLSClientOptions(pinSha256: [String(repeating: "00", count: 32)])),
      context: transportContext()
    )
    let error = await #expect(throws: OpenError.self) {
      try await transport.openStream(deadline: deadline, on: LoopbackTests.loops.next()).get()
    }
    #expect((error?.cause as? TLSError)?.kind == .certificateRefused)
    await listener.close()
    let refused = await #expect(throws: OpenError.self) {
      try await transport.openStream(deadline: deadline, on: LoopbackTests.loops.next()).get()
    }
    #expect(refused?.kind == .refused)
  }

  @Test("a server that never answers the handshake fails the stream at the deadline")
  func silentServer() async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let accepted = LoopbackTests.loops.next().makePromise(of: (any Channel).self)
    let address = try await listener.bind { channel in
      accepted.succeed(channel)
      return channel.eventLoop.makeSucceededVoidFuture()
    }
    let transport = try TLSTransport(
      options: .init(server: #require(Target(address.location)), tls: TLSClientOptions(insecure: true)),
      context: transportContext()
    )
    let error = await #expect(throws: OpenError.self) {
      try await transport.openStream(deadline: .now() + .milliseconds(200), on: LoopbackTests.loops.next())
        .get()
    }
    #expect(error?.kind == .timedOut)
    try await accepted.futureResult.get().close().get()
    await listener.close()
  }

  @Test("what nobody listens on is refused")
  func refused() async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let address = try await listener.bind(accept: LoopbackTests.echo)
    await listener.stopAccepting()
    let transport = try TCPTransport(options: .init(), context: transportContext())
    let error = await #expect(throws: OpenError.self) {
      try await transport.connect(request(address), on: LoopbackTests.loops.next()).get()
    }
    #expect(error?.kind == .refused)
  }

  @Test("a stopped listener keeps its streams, a closed one ends them")
  func stopping() async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let accepted = LoopbackTests.loops.next().makePromise(of: (any Channel).self)
    let address = try await listener.bind { channel in
      accepted.succeed(channel)
      return channel.eventLoop.makeSucceededVoidFuture()
    }
    let transport = try TCPTransport(options: .init(), context: transportContext())
    let channel = try await transport.connect(request(address), on: LoopbackTests.loops.next()).get()
    let stream = try await accepted.futureResult.get()
    await listener.stopAccepting()
    #expect(stream.isActive)
    await listener.close()
    #expect(!stream.isActive)
    try await channel.close().get()
  }

  @Test("a listener takes another's sockets over, TLS those of TCP too, and leaves it its streams")
  func takingOver() async throws {
    let directory = try TemporaryDirectory()
    _ = try SelfSignedCertificate.make(hosts: ["127.0.0.1"]).write(to: directory.path)
    let plain = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let address = try await plain.bind(accept: LoopbackTests.echo)
    let transport = try TCPTransport(options: .init(), context: transportContext())
    let before = try await transport.connect(request(address), on: LoopbackTests.loops.next()).get()

    let secure = try TLSListener(
      options: .init(tls: TLSServerOptions(certificate: "cert.pem", key: "key.pem")),
      context: listenContext("tls", "127.0.0.1:0", directory: directory.path)
    )
    let taken = await secure.takeOver(from: plain, accept: LoopbackTests.echo)
    #expect(taken?.description == "tls://\(address.location)")
    await plain.stopAccepting()

    let bytes = ByteBuffer(string: "over TCP or TLS")
    let tls = try TLSTransport(
      options: .init(
        server: #require(Target(address.location)),
        tls: TLSClientOptions(insecure: true)
      ),
      context: transportContext()
    )
    let after = try await tls.openStream(deadline: deadline, on: LoopbackTests.loops.next()).get()
    #expect(try await exchange(bytes, over: after) == bytes)
    await secure.close()
    #expect(try await exchange(bytes, over: before) == bytes)
    await plain.close()
  }

  @Test("to accept costs the same however often it was done")
  func door() async throws {
    let door = ListeningSockets.Door { $0.eventLoop.makeSucceededVoidFuture() }
    // Were each reading to wrap the closure once more, to call it would overflow the stack.
    for _ in 0..<300_000 { _ = door.accept }
    try await door.accept(EmbeddedChannel()).get()
  }

  @Test("a listener that has no sockets for the same address, or none any more, gives none")
  func nothingToTakeOver() async throws {
    let first = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    _ = try await first.bind(accept: LoopbackTests.echo)
    let elsewhere = try TCPListener(options: NoOptions(), context: listenContext("tcp", "[::1]:0"))
    #expect(await elsewhere.takeOver(from: first, accept: LoopbackTests.echo) == nil)
    await first.stopAccepting()
    let second = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    #expect(await second.takeOver(from: first, accept: LoopbackTests.echo) == nil)
  }

  @Test("an address that cannot be bound is named with the reason")
  func bindErrors() async throws {
    let first = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let address = try await first.bind(accept: LoopbackTests.echo)
    let cases = [(address.location, "in use"), ("192.0.2.1:0", "does not have that address")]
    for (location, says) in cases {
      let second = try TCPListener(options: NoOptions(), context: listenContext("tcp", location))
      let error = await #expect(throws: PluginError.self) {
        try await second.bind(accept: LoopbackTests.echo)
      }
      #expect(error?.description.contains(says) == true)
      #expect(error?.description.contains(location) == true)
      #expect(error?.path == ["listen"])
    }
    await first.close()
    #expect(throws: PluginError.self) {
      try TCPListener(options: NoOptions(), context: listenContext("tcp", "/path"))
    }
  }

  @Test("a stream takes in a sixteenth of its buffer before it is full")
  func writability() async throws {
    let listener = try TCPListener(options: NoOptions(), context: listenContext("tcp", "127.0.0.1:0"))
    let address = try await listener.bind { $0.eventLoop.makeSucceededVoidFuture() }
    var context = transportContext()
    context.buffer = 64 << 10
    let transport = try TCPTransport(options: .init(), context: context)
    let channel = try await transport.connect(request(address), on: LoopbackTests.loops.next()).get()
    let mark = try await channel.getOption(.writeBufferWaterMark).get()
    #expect(mark.high == 4 << 10)
    try await channel.close().get()
    await listener.close()
  }
}
