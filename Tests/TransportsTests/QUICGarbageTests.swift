import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import MagicalaneTransports

/// A UDP socket that speaks no QUIC.
private final class RawSocket: ChannelInboundHandler, Sendable {
  typealias InboundIn = AddressedEnvelope<ByteBuffer>
  private let heard = NIOLockedValueBox<[ByteBuffer]>([])

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data).data
    heard.withLockedValue { $0.append(bytes) }
  }

  var received: [ByteBuffer] { heard.withLockedValue { $0 } }

  /// Waits until so many datagrams came.
  func wait(for count: Int) async throws -> [ByteBuffer] {
    while received.count < count { try await Task.sleep(for: .milliseconds(5)) }
    return received
  }
}

@Suite(.timeLimit(.minutes(1))) struct QUICGarbageTests {
  private func withServer(
    _ body: (QUICLoopback, SocketAddress, any Channel, RawSocket) async throws -> Void
  ) async throws {
    let loopback = try QUICLoopback(loops: 1)
    let address = try await loopback.listener.bind(accept: echo)
    let port = try #require(address.hostAndPort?.port)
    let raw = RawSocket()
    let socket = try await DatagramBootstrap(group: loopback.group)
      .channelInitializer { $0.pipeline.addHandler(raw) }
      .bind(host: "127.0.0.1", port: 0).get()
    try await body(loopback, try SocketAddress(ipAddress: "127.0.0.1", port: port), socket, raw)
    let transport = try loopback.transport(to: address)
    let channel = try await transport.openStream(deadline: .now() + .seconds(10), on: loopback.group.next())
      .get()
    let sent = pattern(10_000)
    #expect(try await channel.exchange(sent) == sent)
    await transport.shutdown()
    try await socket.close().get()
    try await loopback.end()
  }

  @Test("garbage of every size changes nothing for others")
  func garbage() async throws {
    try await withServer { _, server, socket, _ in
      var random = SeededGenerator(state: 1)
      for size in [0, 1, 5, 20, 43, 1199, 1200, 1452, 9000, 65_507] {
        for first in [UInt8.random(in: 0...255, using: &random), 0x40, 0xc0, 0xff] {
          var bytes = ByteBuffer(bytes: (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) })
          if size > 0 { bytes.setInteger(first, at: 0) }
          if size > 5 { bytes.setInteger(UInt32(1), at: 1) }
          try? await socket.writeAndFlush(AddressedEnvelope(remoteAddress: server, data: bytes)).get()
        }
      }
    }
  }

  @Test("a version that we do not speak is answered with the one that we do")
  func versionNegotiation() async throws {
    try await withServer { _, server, socket, raw in
      var packet = ByteBuffer(bytes: [0xc0, 0xba, 0xba, 0xba, 0xba, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9])
      packet.writeRepeatingByte(0, count: 1200 - packet.readableBytes)
      try await socket.writeAndFlush(AddressedEnvelope(remoteAddress: server, data: packet)).get()
      let answer = try #require(try await raw.wait(for: 1).first)
      #expect(answer.getInteger(at: 1, as: UInt32.self) == 0)
      // Their IDs come back the other way round.
      #expect(answer.getBytes(at: 5, length: 5) == [4, 9, 9, 9, 9])
      #expect(answer.getBytes(at: 10, length: 9) == [8, 1, 2, 3, 4, 5, 6, 7, 8])
      #expect(answer.getBytes(at: 19, length: 4) == [0, 0, 0, 1])
    }
  }

  @Test("a packet of a connection that nobody knows is answered with a smaller stateless reset")
  func statelessReset() async throws {
    try await withServer { _, server, socket, raw in
      for size in [100, 40, 30, 20] {
        var packet = ByteBuffer(bytes: [0x40])
        packet.writeBytes(randomBytes(size - 1))
        try await socket.writeAndFlush(AddressedEnvelope(remoteAddress: server, data: packet)).get()
      }
      let answers = try await raw.wait(for: 2)
      #expect(answers[0].readableBytes == 43 && answers[1].readableBytes == 39)
      #expect(answers.allSatisfy { ($0.getInteger(at: 0, as: UInt8.self) ?? 0) & 0xc0 == 0x40 })
    }
  }
}
