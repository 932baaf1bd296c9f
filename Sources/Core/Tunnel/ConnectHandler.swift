import NIOCore

/// Sends a CONNECT request on a stream and waits for the answer.
///
///     waiting ── 2xx ──► done: a ReplayHandler with the bytes behind the answer stands in its place
///        └── anything else, or the deadline ──► done: the channel is closed
///
/// All calls on the channel's event loop.
final class ConnectHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum State {
    case idle
    case waiting
    case done
  }

  private var state = State.idle
  private var exchange: ConnectExchange
  private var received = ByteBuffer()
  private let deadline: NIODeadline
  private let opened: EventLoopPromise<any Channel>
  private var timer: Scheduled<Void>?

  /// - Parameter opened: succeeds with the channel once the server agreed, or fails with `OpenError`.
  init(_ exchange: ConnectExchange, deadline: NIODeadline, opened: EventLoopPromise<any Channel>) {
    self.exchange = exchange
    self.deadline = deadline
    self.opened = opened
  }

  func handlerAdded(context: ChannelHandlerContext) {
    timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.abort(context, OpenError(.timedOut, "the tunnel's server did not answer in time").ofTunnel)
    }
    if context.channel.isActive { start(context) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    fail(context, OpenError(.failed, "the stream was closed before the tunnel's server answered").ofTunnel)
  }

  func channelActive(context: ChannelHandlerContext) {
    start(context)
    context.fireChannelActive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard case .idle = state else { return }
    state = .waiting
    context.writeAndFlush(wrapOutboundOut(exchange.request), promise: nil)
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .waiting = state else { return }
    received.writeImmutableBuffer(unwrapInboundIn(data))
    do {
      if try exchange.receive(&received) { succeed(context) }
    } catch {
      error.kind == .protocolViolation ? abort(context, error) : fail(context, error)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if case .waiting = state { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case ChannelEvent.inputClosed = event else { return context.fireUserInboundEventTriggered(event) }
    fail(context, OpenError(.failed, "the tunnel's server ended the stream before it answered").ofTunnel)
  }

  /// A reset of the stream is the tunnel's and says nothing about the target, so its `errno` is not looked at.
  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let failure =
      error as? OpenError ?? OpenError(.failed, "the tunnel's stream failed: \(error)", cause: error)
    fail(context, failure.ofTunnel)
  }

  func channelInactive(context: ChannelHandlerContext) {
    fail(context, OpenError(.failed, "the stream was closed before the tunnel's server answered").ofTunnel)
    context.fireChannelInactive()
  }

  private func succeed(_ context: ChannelHandlerContext) {
    finish()
    do {
      let pipeline = context.pipeline.syncOperations
      try pipeline.addHandler(ReplayHandler(received), position: .after(self))
      pipeline.removeHandler(context: context, promise: nil)
      opened.succeed(context.channel)
    } catch {
      context.close(promise: nil)
      opened.fail(OpenError(error))
    }
  }

  private func fail(_ context: ChannelHandlerContext, _ error: OpenError) {
    if case .done = state { return }
    finish()
    context.close(promise: nil)
    opened.fail(error)
  }

  /// As `fail`, for a server that may still be busy with the request: it sees an error.
  private func abort(_ context: ChannelHandlerContext, _ error: OpenError) {
    if case .done = state { return }
    finish()
    context.channel.abort(reason: error.message)
    opened.fail(error)
  }

  private func finish() {
    state = .done
    timer?.cancel()
  }
}
