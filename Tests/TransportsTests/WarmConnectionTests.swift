import MagicalaneCore
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

@Suite("Warm connections")
struct WarmConnectionTests {
  /// Makes connections on an embedded loop, and keeps them all.
  private final class Maker {
    let loop = EmbeddedEventLoop()
    var made: [EmbeddedChannel] = []
    var pending: [EventLoopPromise<any Channel>] = []
    /// Answers no attempt by itself.
    var isSlow = false

    var active: Int { made.count { $0.isActive } }

    func connect() -> EventLoopFuture<any Channel> {
      let promise = loop.makePromise(of: (any Channel).self)
      isSlow ? pending.append(promise) : succeed(promise)
      return promise.futureResult
    }

    func succeed(_ promise: EventLoopPromise<any Channel>) {
      let channel = EmbeddedChannel(loop: loop)
      made.append(channel)
      promise.completeWith(
        Result {
          try channel.connect(to: SocketAddress(unixDomainSocketPath: "/test")).now()
          return channel
        }
      )
    }
  }

  private let maker = Maker()

  private func connections(limit: Int = 8) -> WarmConnections {
    WarmConnections(limit: limit, on: maker.loop) { [maker] in maker.connect() }
  }

  /// Opens so many streams at once, with no time for a refill between them.
  private func open(_ count: Int, _ connections: WarmConnections) {
    for _ in 0..<count { _ = connections.take() }
    maker.loop.run()
  }

  @Test func `a single stream makes no connection but its own`() {
    let connections = connections()
    #expect(connections.take() == nil)
    maker.loop.run()
    maker.loop.advanceTime(by: .seconds(5))
    #expect(connections.take() == nil)
    maker.loop.run()
    #expect(maker.made.isEmpty)
  }

  @Test func `a stream takes what waits, the oldest first, and what it took is made up for`() throws {
    let connections = connections()
    open(3, connections)
    #expect(connections.count == 2)
    let taken = try #require(connections.take())
    #expect(taken.channel === maker.made[0])
    maker.loop.run()
    #expect(connections.count == 3)
    #expect(maker.made.count == 4)
  }

  @Test func `no more than the limit wait or are being made`() {
    let connections = connections(limit: 3)
    maker.isSlow = true
    open(20, connections)
    open(20, connections)
    #expect(maker.pending.count == 3)
    for promise in maker.pending { maker.succeed(promise) }
    #expect(connections.count == 3)
  }

  @Test func `all are closed a few seconds after the last stream`() {
    let connections = connections()
    open(5, connections)
    #expect(connections.count == 4)
    maker.loop.advanceTime(by: WarmConnection.lifetime)
    #expect(connections.count == 0)
    maker.loop.advanceTime(by: .seconds(1))
    #expect(maker.made.count == 4)
    #expect(maker.active == 0)
  }

  @Test(arguments: ["end of stream", "error", "bytes", "close"])
  func `a connection that broke while it waited is closed and not handed out`(how: String) throws {
    let connections = connections()
    open(2, connections)
    let channel = try #require(maker.made.first)
    switch how {
    case "end of stream": channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    case "error": channel.pipeline.fireErrorCaught(ChannelError.ioOnClosedChannel)
    case "bytes": channel.pipeline.fireChannelRead(ByteBuffer(string: "x"))
    default: channel.close(promise: nil)
    }
    #expect(connections.count == 0)
    #expect(!channel.isActive)
    #expect(connections.take() == nil)
    maker.loop.run()
    #expect(maker.made.count == 1, "a server that closes them is not pressed")
  }

  @Test func `an attempt that failed is not made again at once`() {
    let connections = connections()
    maker.isSlow = true
    open(4, connections)
    #expect(maker.pending.count == 3)
    for promise in maker.pending { promise.fail(ChannelError.eof) }
    open(1, connections)
    #expect(maker.pending.count == 3)
  }

  @Test func `one that was taken is left alone, and knows when the peer answered`() throws {
    let connections = connections()
    open(2, connections)
    let taken = try #require(connections.take())
    let channel = maker.made[0]
    maker.loop.advanceTime(by: .seconds(60))
    #expect(channel.isActive)
    #expect(!taken.hasAnswered)
    channel.pipeline.fireChannelRead(ByteBuffer(string: "x"))
    #expect(taken.hasAnswered)
    #expect(try channel.readInbound(as: ByteBuffer.self) == ByteBuffer(string: "x"))
    #expect(throws: (any Error).self) {
      try channel.pipeline.syncOperations.handler(type: WarmConnection.self)
    }
  }

  @Test func `a shut-down closes what waits and what is being made`() throws {
    let connections = connections()
    open(3, connections)
    maker.isSlow = true
    open(1, connections)
    try connections.shutDown().now()
    for promise in maker.pending { maker.succeed(promise) }
    #expect(!maker.pending.isEmpty)
    #expect(maker.active == 1, "the one that was taken")
    #expect(connections.take() == nil)
    maker.loop.run()
    #expect(connections.count == 0)
  }
}
