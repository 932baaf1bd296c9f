import NIOCore

/// Stands where a handshake stood until the next owner of the stream is there, and loses nothing meanwhile.
///
/// A handshake reads in batches, so it often holds the stream's first payload when it ends, and a batch may
/// go on after it. This handler keeps those bytes, and an end of input or an error behind them, until the
/// first `read()` comes from downstream. It answers that read with what it kept, in order, and removes itself.
///
///     holding ── read() ──► delivering ──► passing, and removed at once
///        └── channelInactive ──► delivering unasked, for there will be no other time ──► passing
///
/// All calls on the channel's event loop.
package final class ReplayHandler: ChannelDuplexHandler, RemovableChannelHandler {
  package typealias InboundIn = ByteBuffer
  package typealias InboundOut = ByteBuffer
  package typealias OutboundIn = ByteBuffer
  package typealias OutboundOut = ByteBuffer

  private enum State {
    case holding
    case delivering
    case passing
  }

  private var state = State.holding
  private var bytes: ByteBuffer
  private var isInputClosed: Bool
  private var error: (any Error)?
  /// A read that came during the delivery, still to be passed on.
  private var asksForMore = false
  private var isInactive = false

  /// - Parameters:
  ///   - bytes: what the handshake read and did not use.
  ///   - isInputClosed: whether the handshake saw the end of input behind them.
  package init(_ bytes: ByteBuffer = ByteBuffer(), isInputClosed: Bool = false) {
    self.bytes = bytes
    self.isInputClosed = isInputClosed
  }

  package func read(context: ChannelHandlerContext) {
    switch state {
    case .holding:
      let isEmpty = bytes.readableBytes == 0 && !isInputClosed && error == nil
      deliver(context, thenRead: isEmpty)
      context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    case .delivering:
      asksForMore = true
    case .passing:
      context.read()
    }
  }

  package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if case .passing = state { return context.fireChannelRead(data) }
    var more = unwrapInboundIn(data)
    if bytes.readableBytes == 0 {
      bytes = more
    } else {
      bytes.writeBuffer(&more)
    }
  }

  package func channelReadComplete(context: ChannelHandlerContext) {
    if case .passing = state { context.fireChannelReadComplete() }
  }

  package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .passing = state { return context.fireUserInboundEventTriggered(event) }
    if case ChannelEvent.inputClosed = event {
      isInputClosed = true
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  package func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if case .passing = state { return context.fireErrorCaught(error) }
    self.error = self.error ?? error
  }

  package func channelInactive(context: ChannelHandlerContext) {
    isInactive = true
    switch state {
    case .holding: deliver(context, thenRead: false)
    case .delivering: ()
    case .passing: context.fireChannelInactive()
    }
  }

  /// Passes on what is held. Whatever arrives or is asked for meanwhile waits for its turn behind it.
  private func deliver(_ context: ChannelHandlerContext, thenRead: Bool) {
    state = .delivering
    asksForMore = thenRead
    while bytes.readableBytes > 0 {
      let batch = bytes
      bytes = ByteBuffer()
      context.fireChannelRead(wrapInboundOut(batch))
      context.fireChannelReadComplete()
    }
    if isInputClosed { context.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
    if let error { context.fireErrorCaught(error) }
    state = .passing
    if isInactive {
      context.fireChannelInactive()
    } else if asksForMore {
      context.read()
    }
  }
}
