import NIOCore
import NIOEmbedded

@testable import MagicalaneCore

/// Stands at the transport's end of a pipeline and notes what is asked of it.
final class OutboundRecorder: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer

  private(set) var reads = 0
  private(set) var aborts = 0

  func read(context: ChannelHandlerContext) {
    reads += 1
    context.read()
  }

  func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?)
  {
    if event is StreamAbort { aborts += 1 }
    context.triggerUserOutboundEvent(event, promise: promise)
  }
}

/// Stands at the session's end of a pipeline and notes what comes, in order.
final class InboundRecorder: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private(set) var events: [String] = []
  /// Called at each batch, so that a test can ask for more in the middle of a delivery.
  var onRead: (ChannelHandlerContext) -> Void = { _ in }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    events.append(String(buffer: unwrapInboundIn(data)))
    onRead(context)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    events.append("(complete)")
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed = event { events.append("(closed)") }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    events.append("(error)")
  }

  func channelInactive(context: ChannelHandlerContext) {
    events.append("(inactive)")
  }
}

/// An active channel without a socket whose transport end is recorded.
struct RecordedChannel {
  let channel = EmbeddedChannel()
  let outbound = OutboundRecorder()
  let inbound = InboundRecorder()

  init() throws {
    try channel.setOption(ChannelOptions.autoRead, value: false).wait()
    try channel.pipeline.syncOperations.addHandler(outbound)
    channel.connect(to: try SocketAddress(ipAddress: "192.0.2.1", port: 1), promise: nil)
    channel.embeddedEventLoop.run()
  }

  func send(_ text: String) throws {
    try channel.writeInbound(ByteBuffer(string: text))
  }

  func closeInput() {
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
  }

  func has<H: ChannelHandler>(_ type: H.Type) -> Bool {
    (try? channel.pipeline.syncOperations.handler(type: type)) != nil
  }
}
