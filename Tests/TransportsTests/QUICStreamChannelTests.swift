import MagicalaneCore
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

/// Both ends of one stream as channels, over a link in memory.
private final class ChannelPair {
  let link: QUICTestLink
  let loop = EmbeddedEventLoop()
  let near: Side
  let far: Side

  final class Side: QUICStreamHost {
    let connection: QUICConnection
    private(set) var channel: QUICStreamChannel?
    let record = Record()
    var ended = 0

    init(_ connection: QUICConnection) { self.connection = connection }

    func open(_ stream: QUICStream, on loop: EmbeddedEventLoop, buffer: Int) throws {
      let channel = QUICStreamChannel(stream, host: self, parent: nil, on: loop, buffer: buffer)
      self.channel = channel
      try channel.pipeline.syncOperations.addHandler(record)
      channel.activate()
    }

    func needsService() {}
    func streamEnded(_ channel: QUICStreamChannel) { ended += 1 }
  }

  init(buffer: Int = 1 << 20, memory: StreamMemory = StreamMemory()) throws {
    var settings = QUICSettings()
    settings.windows = QUICWindows(buffer: 20 << 20, memory: memory)
    link = try QUICTestLink(client: settings)
    link.handshake()
    let server = try #require(link.server)
    near = Side(link.client.connection)
    far = Side(server.connection)
    let stream = try #require(link.client.connection.openStream())
    try near.open(stream, on: loop, buffer: buffer)
    link.client.onChange = { $0.user?.streamChanged() }
    server.onChange = { $0.user?.streamChanged() }
    // The far end learns of a stream with its first byte.
    try write(ByteBuffer(string: "!"), on: near)
    #expect(link.run { !server.opened.isEmpty })
    try far.open(server.opened[0], on: loop, buffer: buffer)
    channel(far).read()
    run()
    far.record.clear()
  }

  func channel(_ side: Side) -> any Channel {
    // Both were opened by the initializer.
    side.channel.map { $0 as any Channel } ?? EmbeddedChannel()
  }

  @discardableResult
  func write(_ bytes: ByteBuffer, on side: Side) throws -> EventLoopFuture<Void> {
    channel(side).writeAndFlush(bytes)
  }

  func run(for time: UInt64 = 1_000_000_000) {
    link.run(for: time)
    loop.run()
  }
}

/// Everything that a channel fires.
private final class Record: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  var reads: [ByteBuffer] = []
  var events: [String] = []

  func clear() { (reads, events) = ([], []) }
  func channelActive(context: ChannelHandlerContext) { events.append("active") }
  func channelInactive(context: ChannelHandlerContext) { events.append("inactive") }
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    reads.append(unwrapInboundIn(data))
    events.append("read")
  }
  func channelReadComplete(context: ChannelHandlerContext) { events.append("complete") }
  func channelWritabilityChanged(context: ChannelHandlerContext) {
    events.append(context.channel.isWritable ? "writable" : "full")
  }
  func errorCaught(context: ChannelHandlerContext, error: any Error) { events.append("error: \(error)") }
  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) { events.append("\(event)") }
}

@Suite struct QUICStreamChannelTests {
  @Test("streams of one connection have one path, which tells what the connection counts until it is over")
  func path() throws {
    let pair = try ChannelPair()
    let channel = try #require(pair.near.channel)
    #expect(channel.path === pair.near.connection.pathSource)
    let counts = try #require(channel.path.counts)
    #expect(counts.sent == pair.near.connection.datagramsSent && counts.sent > 0)
    #expect(counts.lost == nil)
    #expect(counts.roundTrip.map { $0.smoothed >= 2 * pair.link.latency } == true)
    pair.link.client.connection.close(now: pair.link.now)
    #expect(channel.path.isOver)
    #expect(channel.path.counts?.sent == counts.sent)
  }

  @Test("nothing is read until read() is called, and then once, with all that came")
  func demand() throws {
    let pair = try ChannelPair()
    for _ in 0..<3 { try pair.write(pattern(5000), on: pair.near) }
    pair.run()
    #expect(pair.far.record.events.isEmpty)
    pair.channel(pair.far).read()
    pair.run()
    #expect(pair.far.record.events == ["read", "complete"])
    #expect(pair.far.record.reads.first?.readableBytes == 15_000)
    try pair.write(pattern(10), on: pair.near)
    pair.run()
    #expect(pair.far.record.events.count == 2)
  }

  @Test("an error that somebody fires into the pipeline reaches its end, and the stream can be aborted then")
  func foreignError() throws {
    struct Lost: Error {}
    let pair = try ChannelPair()
    pair.near.record.clear()
    pair.channel(pair.near).pipeline.fireErrorCaught(Lost())
    #expect(pair.near.record.events == ["error: Lost()"])
    pair.channel(pair.near).triggerUserOutboundEvent(StreamAbort(reason: "lost"), promise: nil)
    pair.channel(pair.near).close(promise: nil)
    pair.run()
    #expect(pair.near.record.events == ["error: Lost()", "inactive"])
  }

  @Test("the end of the input comes behind the last byte, and the other direction goes on")
  func halfClose() throws {
    let pair = try ChannelPair()
    try pair.write(pattern(100), on: pair.near)
    pair.channel(pair.near).close(mode: .output, promise: nil)
    pair.run()
    pair.channel(pair.far).read()
    pair.run()
    #expect(pair.far.record.events == ["read", "inputClosed", "complete"])
    pair.channel(pair.near).read()
    try pair.write(pattern(200), on: pair.far)
    pair.channel(pair.far).close(mode: .output, promise: nil)
    pair.run()
    #expect(pair.near.record.reads.last?.readableBytes == 200)
    #expect(pair.near.record.events.suffix(3) == ["read", "inputClosed", "inactive"])
    #expect(pair.far.record.events.suffix(2) == ["outputClosed", "inactive"])
    #expect(!pair.channel(pair.near).isActive && pair.near.ended == 1 && pair.far.ended == 1)
  }

  @Test("close delivers what was flushed, and the peer sees a clean end")
  func close() throws {
    let pair = try ChannelPair()
    try pair.write(pattern(300_000), on: pair.near)
    pair.channel(pair.near).close(promise: nil)
    pair.loop.run()
    #expect(!pair.channel(pair.near).isActive)
    var total = 0
    while !pair.far.record.events.contains("inputClosed") {
      pair.channel(pair.far).read()
      pair.run()
      #expect(pair.far.record.reads.reduce(0) { $0 + $1.readableBytes } > total)
      total = pair.far.record.reads.reduce(0) { $0 + $1.readableBytes }
    }
    #expect(total == 300_000)
    #expect(!pair.far.record.events.contains { $0.hasPrefix("error") })
  }

  @Test("an abort reaches the peer as an error, at once and whatever waits")
  func abort() throws {
    let pair = try ChannelPair()
    try pair.write(pattern(900_000), on: pair.near)
    pair.run()
    pair.channel(pair.near).triggerUserOutboundEvent(StreamAbort(reason: "test"), promise: nil)
    pair.run()
    #expect(pair.near.record.events.last == "inactive")
    #expect(pair.far.record.events == ["error: the peer reset the QUIC stream (code 1)", "inactive"])
  }

  @Test(
    "a stream is not writable while more than its share of the buffer waits, and is again when the peer has taken it"
  )
  func writability() throws {
    let pair = try ChannelPair(buffer: 100_000)
    let near = pair.channel(pair.near)
    try pair.write(pattern(70_000), on: pair.near)
    #expect(near.isWritable)
    try pair.write(pattern(20_000), on: pair.near)
    #expect(!near.isWritable)
    pair.run()
    #expect(near.isWritable)
    #expect(pair.near.record.events.suffix(2) == ["full", "writable"])
    // The reader's window stands in the way of this much.
    for _ in 0..<10 { try pair.write(pattern(100_000), on: pair.near) }
    pair.run()
    #expect(!near.isWritable)
    for _ in 0..<10 {
      pair.channel(pair.far).read()
      pair.run()
    }
    #expect(near.isWritable)
  }

  @Test("where the budget is used up a stream holds its least and no more, and goes on with that")
  func scarce() throws {
    let budget = MemoryBudget(limit: 16 << 20)
    var others = MemoryClaim(budget)
    others.hold(16 << 20)
    let pair = try ChannelPair(buffer: 20 << 20, memory: StreamMemory(budget: budget))
    let near = pair.channel(pair.near)
    try pair.write(pattern(budget.least), on: pair.near)
    #expect(near.isWritable)
    try pair.write(pattern(1), on: pair.near)
    #expect(!near.isWritable)
    #expect(budget.used == (16 << 20) + budget.least)
    pair.run()
    #expect(near.isWritable)
    #expect(budget.used == 16 << 20)
  }

  @Test("a write's promise succeeds with the flush that hands its bytes over")
  func promises() throws {
    let pair = try ChannelPair()
    let near = pair.channel(pair.near)
    var isDone = false
    near.write(pattern(10)).assumeIsolated().whenSuccess { isDone = true }
    #expect(!isDone)
    near.flush()
    #expect(isDone)
    near.close(mode: .output, promise: nil)
    #expect(throws: ChannelError.outputClosed) { try near.writeAndFlush(pattern(1)).wait() }
    near.close(promise: nil)
    #expect(throws: ChannelError.ioOnClosedChannel) { try near.writeAndFlush(pattern(1)).wait() }
  }

  @Test("what is sent to a peer that wants no more is dropped, and is an error once the peer has ended too")
  func unwanted() throws {
    let pair = try ChannelPair()
    pair.channel(pair.near).close(promise: nil)
    pair.run()
    try pair.write(pattern(10), on: pair.far)
    pair.run()
    #expect(pair.channel(pair.far).isActive)
    #expect(throws: QUICStreamError.stopped) { try pair.write(pattern(10), on: pair.far).wait() }
    pair.channel(pair.far).read()
    pair.run()
    #expect(
      pair.far.record.events == [
        "inputClosed", "error: the peer stopped reading the QUIC stream", "inactive",
      ]
    )
  }

  @Test("a lost connection is an error on every stream, and then its end")
  func lost() throws {
    let pair = try ChannelPair()
    pair.near.connection.abandon(.idleTimeout)
    pair.near.connection.streams.values.forEach { $0.user?.connectionLost(.idleTimeout) }
    pair.loop.run()
    #expect(pair.near.record.events.suffix(2) == ["error: the QUIC connection timed out", "inactive"])
    try pair.channel(pair.near).closeFuture.wait()
  }

  @Test("options that make sense for a stream work, and others fail without harm")
  func options() throws {
    let pair = try ChannelPair(buffer: 1000)
    let options = try #require(pair.channel(pair.near).syncOptions)
    #expect(try options.getOption(.autoRead) == false)
    #expect(try options.getOption(.allowRemoteHalfClosure))
    #expect(try options.getOption(.writeBufferWaterMark).high == 750)
    try options.setOption(.writeBufferWaterMark, value: .init(low: 1, high: 5))
    pair.channel(pair.near).write(pattern(10), promise: nil)
    #expect(try options.getOption(.bufferedWritableBytes) == 10)
    #expect(!pair.channel(pair.near).isWritable)
    #expect(throws: ChannelError.operationUnsupported) {
      try options.setOption(.socketOption(.so_keepalive), value: 1)
    }
    #expect(throws: ChannelError.operationUnsupported) { try options.getOption(.backlog) }
  }

  @Test("with autoRead on, bytes come by themselves")
  func autoRead() throws {
    let pair = try ChannelPair()
    try #require(pair.channel(pair.far).syncOptions).setOption(.autoRead, value: true)
    try pair.write(pattern(10), on: pair.near)
    pair.run()
    try pair.write(pattern(10), on: pair.near)
    pair.run()
    #expect(pair.far.record.reads.count == 2)
  }
}
