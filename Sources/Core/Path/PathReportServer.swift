import NIOCore

/// The server's end of a control stream: it answers queries with what it counted of a leg.
///
/// The last handler of a stream whose handshake ended in a report. Where several queries came at once, the last is
/// answered and no other; nothing more is read until that is on its way, so a client that asks and does not read
/// is not read either. All calls on the channel's event loop.
///
///     waiting ──query──► counting ──answered──► waiting
///        └───────────────────┴── end of stream, silence, error, finish ──► over, the channel is closed
final class PathReportServer: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum State { case waiting, counting, over }

  private let ledger: PathLedger
  private let idleTimeout: TimeAmount
  private let ended: (String) -> Void
  private var state = State.waiting
  private var received = ByteBuffer()
  private var inputEnded = false
  /// The writer is full, so that nothing more is read for now.
  private var holdsRead = false
  private var context: ChannelHandlerContext?
  private var timer: Scheduled<Void>?

  /// - Parameters:
  ///   - idleTimeout: how long a client may say nothing.
  ///   - ended: told once why it is over, on the loop.
  init(_ ledger: PathLedger, idleTimeout: TimeAmount, ended: @escaping (String) -> Void) {
    self.ledger = ledger
    self.idleTimeout = idleTimeout
    self.ended = ended
  }

  /// Ends the stream at once; the client sees a clean end.
  func finish(_ reason: String) {
    guard state != .over else { return }
    state = .over
    timer?.cancel()
    context?.close(promise: nil)
    ended(reason)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    restartTimer(context)
    context.read()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish("the stream was closed")
    self.context = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    received.writeImmutableBuffer(unwrapInboundIn(data))
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    advance(context)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if holdsRead { readMore(context) }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case ChannelEvent.inputClosed = event else { return context.fireUserInboundEventTriggered(event) }
    inputEnded = true
    advance(context)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish("\(error)")
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish("the client left")
    context.fireChannelInactive()
  }
}

extension PathReportServer {
  private func advance(_ context: ChannelHandlerContext) {
    guard state == .waiting else { return }
    do throws(PathFrameError) {
      if let number = try lastQuery() {
        restartTimer(context)
        answer(number, context)
      } else if inputEnded {
        finish("the client ended the stream")
      } else {
        readMore(context)
      }
    } catch {
      context.channel.abort(reason: error.description)
      finish(error.description)
    }
  }

  /// The number of the last query among the bytes at hand.
  private func lastQuery() throws(PathFrameError) -> UInt64? {
    var last: UInt64?
    while let frame = try PathFrame.take(from: &received) {
      guard case .query(let number) = frame else {
        throw PathFrameError(description: "a report by the client")
      }
      last = number
    }
    return last
  }

  private func answer(_ number: UInt64, _ context: ChannelHandlerContext) {
    state = .counting
    ledger.counts(on: context.eventLoop).assumeIsolated().whenComplete { result in
      guard self.state == .counting else { return }
      switch result {
      case .success(let counts):
        self.state = .waiting
        let report = PathFrame.report(PathReport(number: number, counts: counts))
        context.writeAndFlush(self.wrapOutboundOut(report.bytes), promise: nil)
        self.advance(context)
      case .failure(let error): self.finish("\(error)")
      }
    }
  }

  private func readMore(_ context: ChannelHandlerContext) {
    holdsRead = !context.channel.isWritable
    if !holdsRead && !inputEnded { context.read() }
  }

  private func restartTimer(_ context: ChannelHandlerContext) {
    timer?.cancel()
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: idleTimeout) {
      self.finish("no query for the idle time-out")
    }
  }
}
