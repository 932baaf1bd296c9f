import Logging
import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import MagicalaneTransports

@Suite(.timeLimit(.minutes(2))) struct QUICLoopbackTests {
  private func open(_ transport: QUICTransport, _ loopback: QUICLoopback) async throws -> any Channel {
    try await transport.openStream(deadline: .now() + .seconds(60), on: loopback.group.next()).get()
  }

  @Test(
    "a stream carries bytes there and back over sockets",
    arguments: ["127.0.0.1:0", "[::1]:0", "localhost:0"]
  )
  func exchange(host: String) async throws {
    let loopback = try QUICLoopback(host: host)
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let channel = try await open(transport, loopback)
    let sent = pattern(3_000_000)
    let back = try await channel.exchange(sent)
    #expect(back == sent)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("300 streams at once on one connection keep their bytes apart")
  func manyStreams() async throws {
    let loopback = try QUICLoopback(loops: 1)
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let wrong = try await withThrowingTaskGroup(of: Bool.self) { group in
      for index in 0..<300 {
        group.addTask {
          let channel = try await open(transport, loopback)
          let sent = pattern(20_000 + index, seed: index)
          return try await channel.exchange(sent) != sent
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(wrong == 0)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("requests over the server's limit of streams wait for their turn")
  func credit() async throws {
    let loopback = try QUICLoopback(loops: 1) { $0.maxStreams = 2 }
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let done = try await withThrowingTaskGroup(of: Bool.self) { group in
      for index in 0..<20 {
        group.addTask {
          let channel = try await open(transport, loopback)
          let sent = pattern(1000, seed: index)
          return try await channel.exchange(sent) == sent
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(done == 20)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("a server that wants every address proved still serves everyone")
  func retry() async throws {
    let loopback = try QUICLoopback { $0.retry = .always }
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let sent = pattern(10_000)
    let back = try await open(transport, loopback).exchange(sent)
    #expect(back == sent)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("a wrong certificate is refused at once, with the reason")
  func wrongCertificate() async throws {
    let loopback = try QUICLoopback()
    let address = try await loopback.listener.bind(accept: echo)
    let other = try SelfSignedCertificate.make(hosts: ["localhost"])
    let transport = try loopback.transport(to: address, pin: other.pinSHA256)
    let started = NIODeadline.now()
    let error = await #expect(throws: OpenError.self) { try await open(transport, loopback) }
    #expect(error?.message.contains("pin") == true)
    #expect(NIODeadline.now() - started < .seconds(40))
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("a server that is not there is an error that says so, well before the deadline")
  func nobodyThere() async throws {
    let loopback = try QUICLoopback()
    let address = try await loopback.listener.bind(accept: echo)
    await loopback.listener.close()
    let transport = try loopback.transport(to: address)
    let started = NIODeadline.now()
    let error = await #expect(throws: OpenError.self) { try await open(transport, loopback) }
    #expect(error?.kind == .refused)
    #expect(NIODeadline.now() - started < .seconds(40))
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("a port that somebody has is an error, though sockets of one listener share theirs")
  func portInUse() async throws {
    let loopback = try QUICLoopback()
    let address = try await loopback.listener.bind(accept: echo)
    let second = try QUICLoopback(host: address.location)
    let error = await #expect(throws: PluginError.self) { try await second.listener.bind(accept: echo) }
    #expect(error?.description.contains("in use") == true)
    try await second.end()
    try await loopback.end()
  }

  @Test("a client whose socket is replaced stays connected, whichever of the server's loops hears of it")
  func rebinding() async throws {
    let loopback = try QUICLoopback(loops: 4)
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let loop = loopback.group.next()
    let received = NIOLockedValueBox(0)
    let channel = try await transport.openStream(deadline: .now() + .seconds(60), on: loop).get()
    try await loop.submit {
      try channel.pipeline.syncOperations.addHandler(Counting(received))
    }.get()
    let endpoint = try await loop.submit {
      let udp = try #require(channel.parent)
      return NIOLoopBound(try udp.pipeline.syncOperations.handler(type: QUICEndpoint.self), eventLoop: loop)
    }.get()
    for round in 1...6 {
      try await channel.writeAndFlush(pattern(50_000)).get()
      while received.withLockedValue({ $0 }) < round * 50_000 { try await Task.sleep(for: .milliseconds(5)) }
      // The socket goes away below the handler that would close the connection.
      try await loop.submit { endpoint.value.loseSocket() }.get()
    }
    #expect(channel.isActive)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("a server that starts again tells its clients, which connect anew")
  func restart() async throws {
    let loopback = try QUICLoopback(loops: 1)
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let first = try await open(transport, loopback)
    await loopback.listener.close()
    let second = try QUICLoopback(loops: 1, host: address.location)
    _ = try await second.listener.bind(accept: echo)
    try await first.closeFuture.get()
    let sent = pattern(1000)
    #expect(try await open(transport, loopback).exchange(sent) == sent)
    await transport.shutdown()
    try await second.end()
    try await loopback.end()
  }

  @Test("a listener that stops takes nobody new and lets streams finish")
  func draining() async throws {
    let loopback = try QUICLoopback(loops: 1)
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try loopback.transport(to: address)
    let old = try await open(transport, loopback)
    try await old.writeAndFlush(pattern(10)).get()
    // One exchange shows that the server has the stream.
    let probe = try await open(transport, loopback).exchange(pattern(10))
    #expect(probe == pattern(10))
    await loopback.listener.stopAccepting()
    let late = try await open(transport, loopback)
    await #expect(throws: (any Error).self) { try await late.exchange(pattern(10)) }
    let sent = pattern(100_000)
    let back = try await old.exchange(sent)
    #expect(back.readableBytes == 100_010)
    await transport.shutdown()
    try await loopback.end()
  }

  @Test("what a listener's stream sent before it closed arrives although the listener closes")
  func lingering() async throws {
    let loopback = try QUICLoopback(loops: 1)
    let accepted = NIOLockedValueBox<(any Channel)?>(nil)
    let address = try await loopback.listener.bind { channel in
      accepted.withLockedValue { $0 = channel }
      return channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(Parting())
      }
    }
    let transport = try loopback.transport(to: address)
    let channel = try await open(transport, loopback)
    let back = try await channel.exchange(pattern(10))
    #expect(back == pattern(2_000_000))
    await loopback.listener.close()
    await transport.shutdown()
    try await loopback.end()
  }
}

/// Counts bytes.
private final class Counting: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let total: NIOLockedValueBox<Int>
  init(_ total: NIOLockedValueBox<Int>) { self.total = total }
  func handlerAdded(context: ChannelHandlerContext) { context.read() }
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let count = unwrapInboundIn(data).readableBytes
    total.withLockedValue { $0 += count }
  }
  func channelReadComplete(context: ChannelHandlerContext) { context.read() }
}

/// Says much, and closes without waiting.
private final class Parting: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer
  func channelActive(context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(pattern(2_000_000)), promise: nil)
    context.close(promise: nil)
  }
}
