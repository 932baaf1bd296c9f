import Logging
import NIOCore

/// The last handler of an accepted stream until its request is answered: it feeds bytes to the frontend's
/// handshake, does what that says, and gives way to the duplex.
///
///     reading ──.open──► opening ──opened──► gone (joined)
///        │                  └──failed──► closing
///        ├──.report──────────────────────► gone (a PathReportServer in its place)
///        └──.refuse, time-out──────────► closing ──peer closed, time-out──► gone
final class HandshakeHandler<Handshake: FrontendHandshake>: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum State { case reading, opening, closing, gone }

  private let session: Session
  private var handshake: Handshake
  private var state = State.reading
  private var bytes = ByteBuffer()
  private var inputEnded = false
  private var discarded = 0

  init(_ handshake: Handshake, session: Session) {
    self.handshake = handshake
    self.session = session
  }

  func handlerAdded(context: ChannelHandlerContext) {
    session.clock.set(in: session.route.handshakeTimeout) { self.timedOut(context) }
    if context.channel.isActive { context.read() }
  }

  func channelActive(context: ChannelHandlerContext) {
    context.fireChannelActive()
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var incoming = unwrapInboundIn(data)
    switch state {
    case .reading, .opening: bytes.writeBuffer(&incoming)
    case .closing: discard(incoming.readableBytes, context)
    case .gone: context.fireChannelRead(data)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    switch state {
    case .reading: advance(context)
    case .closing: context.read()
    case .opening: ()
    case .gone: context.fireChannelReadComplete()
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent, state != .gone {
      inputEnded = true
      if state == .reading { advance(context) }
      if state == .reading {
        finish(context, .left(reason: "the client left before its request was complete"))
      }
      if state == .closing { context.close(promise: nil) }
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(context, .left(reason: "\(error)"))
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(context, .left(reason: "the client left"))
    context.fireChannelInactive()
  }
}

extension HandshakeHandler {
  /// Takes the handshake as far as the bytes at hand allow.
  private func advance(_ context: ChannelHandlerContext) {
    var hasWritten = false
    defer { if hasWritten { context.flush() } }
    while state == .reading {
      switch handshake.receive(&bytes) {
      case .needMore:
        if !inputEnded { context.read() }
        return
      case .send(let reply):
        context.write(wrapOutboundOut(reply), promise: nil)
        hasWritten = true
      case .open(let target, let user):
        open(target, user, context)
      case .report(let leg, let user):
        report(leg, user, context)
      case .refuse(let reply, let reason):
        refuse(reply, .refused(reason: reason), context)
      }
    }
  }

  private func open(_ target: Target, _ user: String?, _ context: ChannelHandlerContext) {
    state = .opening
    session.open(target, user: user, leg: handshake.leg) { self.opened($0, context) }
    // One batch may come before the target answers. The socket stays watched so, which costs less than to stop
    // and to start again, and a client that breaks off is noticed.
    if state == .opening, !inputEnded { context.read() }
  }

  private func opened(_ result: Result<any Channel, OpenError>, _ context: ChannelHandlerContext) {
    switch result {
    case .success(let channel) where state == .opening:
      context.writeAndFlush(wrapOutboundOut(handshake.accepted()), promise: nil)
      giveWay(to: channel, context)
    case .success(let channel):
      channel.close(promise: nil)
    case .failure(let error) where state == .opening:
      refuse(handshake.refused(error), .failed(error), context)
    case .failure: ()
    }
  }

  private func report(_ leg: LegID, _ user: String?, _ context: ChannelHandlerContext) {
    session.clock.clear()
    do throws(OpenError) {
      let server = try session.report(leg, user: user)
      context.writeAndFlush(wrapOutboundOut(handshake.accepted()), promise: nil)
      let pipeline = context.pipeline.syncOperations
      leave(context) { try pipeline.addHandler(server) }
    } catch {
      refuse(handshake.refused(error), .failed(error), context)
    }
  }

  /// Leaves the pipeline to the duplex.
  private func giveWay(to channel: any Channel, _ context: ChannelHandlerContext) {
    let isLeft = leave(context) { session.join(channel) }
    if !isLeft { channel.close(promise: nil) }
  }

  /// Leaves the pipeline to the next owner of the stream; what came behind the request is replayed to it.
  ///
  /// - Returns: false where that failed, and the stream is closed.
  @discardableResult
  private func leave(_ context: ChannelHandlerContext, to next: () throws -> Void) -> Bool {
    state = .gone
    let pipeline = context.pipeline.syncOperations
    do {
      if bytes.readableBytes > 0 || inputEnded {
        try pipeline.addHandler(ReplayHandler(bytes, isInputClosed: inputEnded), position: .after(self))
      }
      pipeline.removeHandler(self, promise: nil)
      try next()
      return true
    } catch {
      context.close(promise: nil)
      session.ended(.failed(OpenError(error)))
      return false
    }
  }
}

extension HandshakeHandler {
  /// Sends the last words and ends our side, then lets the client read them: to close at once, with bytes of
  /// the client unread, would make the kernel send RST, which can overtake the reply.
  private func refuse(_ reply: ByteBuffer?, _ end: SessionEnd, _ context: ChannelHandlerContext) {
    state = .closing
    session.ended(end)
    bytes.clear()
    let written = context.eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolated().whenComplete { _ in self.linger(context) }
    context.writeAndFlush(wrapOutboundOut(reply ?? ByteBuffer()), promise: written)
  }

  private func linger(_ context: ChannelHandlerContext) {
    guard state == .closing else { return }
    guard !inputEnded else { return context.close(promise: nil) }
    context.close(mode: .output, promise: nil)
    session.clock.set(in: .seconds(2)) { context.close(promise: nil) }
    context.read()
  }

  private func discard(_ count: Int, _ context: ChannelHandlerContext) {
    discarded += count
    if discarded > 256 * 1024 { context.close(promise: nil) }
  }

  private func timedOut(_ context: ChannelHandlerContext) {
    guard state == .reading else { return }
    finish(context, .handshakeTimedOut)
  }

  private func finish(_ context: ChannelHandlerContext, _ end: SessionEnd) {
    guard state != .gone else { return }
    state = .gone
    session.ended(end)
    session.clock.stop()
    context.close(promise: nil)
  }
}
