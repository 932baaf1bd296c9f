import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

@Suite struct ReplayHandlerTests {
  let recorded: RecordedChannel
  var events: [String] { recorded.inbound.events }

  init() throws {
    recorded = try RecordedChannel()
  }

  private func hold(_ text: String = "", isInputClosed: Bool = false) throws {
    let replay = ReplayHandler(ByteBuffer(string: text), isInputClosed: isInputClosed)
    try recorded.channel.pipeline.syncOperations.addHandlers([replay, recorded.inbound])
  }

  @Test func `nothing is delivered before the first read`() throws {
    try hold("a", isInputClosed: true)
    try recorded.send("b")
    recorded.channel.pipeline.fireErrorCaught(OpenError(.failed, "x"))
    #expect(events.isEmpty)
  }

  @Test func `the first read is answered with everything held, in order and as one batch`() throws {
    try hold("a")
    try recorded.send("b")
    try recorded.send("c")
    recorded.closeInput()
    recorded.channel.pipeline.fireErrorCaught(OpenError(.failed, "x"))
    let reads = recorded.outbound.reads
    recorded.channel.pipeline.read()
    #expect(events == ["abc", "(complete)", "(closed)", "(error)"])
    #expect(recorded.outbound.reads == reads)
    #expect(!recorded.has(ReplayHandler.self))
  }

  @Test func `a read with nothing held goes on to the transport`() throws {
    try hold()
    let reads = recorded.outbound.reads
    recorded.channel.pipeline.read()
    #expect(recorded.outbound.reads == reads + 1)
    #expect(events.isEmpty)
    #expect(!recorded.has(ReplayHandler.self))
    try recorded.send("x")
    #expect(events == ["x", "(complete)"])
  }

  @Test func `an end of input alone answers the first read`() throws {
    try hold(isInputClosed: true)
    recorded.channel.pipeline.read()
    #expect(events == ["(closed)"])
  }

  @Test func `what arrives during the delivery stays behind it`() throws {
    try hold("a")
    let (recorded, inbound) = (recorded, recorded.inbound)
    inbound.onRead = { _ in
      inbound.onRead = { _ in }
      recorded.channel.pipeline.fireChannelRead(ByteBuffer(string: "b"))
      recorded.channel.pipeline.fireChannelReadComplete()
      recorded.closeInput()
    }
    recorded.channel.pipeline.read()
    #expect(events == ["a", "(complete)", "b", "(complete)", "(closed)"])
  }

  @Test func `a read during the delivery asks the transport once it is over`() throws {
    try hold("a")
    let outbound = recorded.outbound
    let reads = outbound.reads
    var readsMeanwhile = 0
    recorded.inbound.onRead = { context in
      context.read()
      readsMeanwhile = outbound.reads - reads
    }
    recorded.channel.pipeline.read()
    #expect(readsMeanwhile == 0)
    #expect(outbound.reads == reads + 1)
  }

  @Test func `a channel that dies before the first read still delivers`() throws {
    try hold("a", isInputClosed: true)
    recorded.channel.close(promise: nil)
    recorded.channel.embeddedEventLoop.run()
    #expect(events == ["a", "(complete)", "(closed)", "(inactive)"])
  }

  @Test func `a channel that dies during the delivery says so behind it`() throws {
    try hold("a", isInputClosed: true)
    let channel = recorded.channel
    recorded.inbound.onRead = { _ in channel.close(promise: nil) }
    channel.pipeline.read()
    channel.embeddedEventLoop.run()
    #expect(events == ["a", "(complete)", "(closed)", "(inactive)"])
  }
}
