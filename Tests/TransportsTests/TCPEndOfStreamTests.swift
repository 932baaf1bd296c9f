import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

@Suite("TCP ends of stream")
struct TCPEndOfStreamTests {
  private let channel = EmbeddedChannel()
  private let recorder = StreamRecorder(readsOn: false)

  init() throws {
    try channel.pipeline.syncOperations.addHandlers([EndOfStreamHandler(), recorder])
  }

  @Test("a peer that ends after us, which NIO reports as a closed channel alone, has ended its stream")
  func endAfterOurs() {
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
    channel.pipeline.fireChannelInactive()
    #expect(recorder.happenings == [.outputClosed, .inputClosed, .inactive])
  }

  @Test("an end of stream is reported once")
  func once() {
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
    channel.pipeline.fireChannelInactive()
    #expect(recorder.happenings == [.inputClosed, .outputClosed, .inactive])
  }

  @Test("a reset, a close of ours and a loss before our end are no ends of stream")
  func otherEnds() throws {
    for way in 0..<3 {
      let channel = EmbeddedChannel()
      let recorder = StreamRecorder(readsOn: false)
      try channel.pipeline.syncOperations.addHandlers([EndOfStreamHandler(), recorder])
      if way < 2 { channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed) }
      if way == 0 { channel.pipeline.fireErrorCaught(IOError(errnoCode: 104, reason: "reset")) }
      if way == 1 { channel.close(promise: nil) } else { channel.pipeline.fireChannelInactive() }
      #expect(!recorder.happenings.contains(.inputClosed))
      #expect(recorder.happenings.contains(.inactive))
    }
  }
}
