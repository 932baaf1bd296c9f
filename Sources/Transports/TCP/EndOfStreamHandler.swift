import NIOCore

/// Reports the peer's end of stream where NIO does not.
///
/// When the peer's FIN comes after ours, a NIO socket closes at once and never fires
/// `ChannelEvent.inputClosed`, so that a clean end looks like a lost connection. This handler fires it then.
/// An error, or a close from our side, is no end of stream.
final class EndOfStreamHandler: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer

  private var isOutputClosed = false
  /// An end of stream was reported, or none can come.
  private var isDecided = false

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event as? ChannelEvent {
    case .inputClosed?: isDecided = true
    case .outputClosed?: isOutputClosed = true
    case nil: ()
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    isDecided = true
    context.fireErrorCaught(error)
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    if mode == .all { isDecided = true }
    context.close(mode: mode, promise: promise)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if isOutputClosed && !isDecided {
      isDecided = true
      context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }
    context.fireChannelInactive()
  }
}

extension EndOfStreamHandler {
  /// Adds one to a plain TCP stream; TLS has end-of-stream marks of its own.
  @Sendable
  static func add(to channel: any Channel) -> EventLoopFuture<Void> {
    channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.addHandler(EndOfStreamHandler())
    }
  }
}
