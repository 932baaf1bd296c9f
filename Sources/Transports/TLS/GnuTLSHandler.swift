import MagicalaneCore
import NIOCore

/// TLS 1.3 between a socket and the handlers behind it.
///
///     idle ──active──► handshaking ──done──► open ──both ends of stream, close, abort──► closed
///                          │                  │                                            ▲
///                          └─────error────────┴───► failing ──peer closed, 1 s─────────────┘
///
/// The handler asks for what the handshake needs by itself. After that it keeps the rules of `Transport`:
/// each `read()` from behind yields one batch of plaintext, and the socket is read only when nothing is left
/// to decrypt. What the socket delivers unasked, as NIO does when the peer has closed, waits here.
///
/// Ends of stream are `close_notify` alerts, one for each direction (RFC 8446 §6.1). TCP's own FIN is sent
/// only when both directions have ended, because half-closed TCP adds nothing but chances for middleboxes
/// and peers to see an abort. FIN without `close_notify` is a truncation, an error.
final class GnuTLSHandler: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum State { case idle, handshaking, open, failing, closed }

  /// The most plaintext in one batch: enough for the cost per batch to vanish, and small against any buffer.
  static let batchSize = 256 << 10
  /// How long a peer that we sent an alert may take to read it and close.
  ///
  /// Closing at once, with bytes of the peer's unread, would make the kernel send RST, which overtakes the
  /// alert.
  private static let lingerTime = TimeAmount.seconds(1)
  /// How long a server's ticket waits for a first answer that it can go with.
  private static let ticketDelay = TimeAmount.milliseconds(100)

  private let session: TLSSession
  private let tickets: SessionTickets?
  private let metrics: TLSMetrics?
  private var handshakePromise: EventLoopPromise<Void>?
  private var state = State.idle
  private var handshakeStart = NIODeadline.uptimeNanoseconds(0)
  private var hasBeenOpen = false

  /// A `read()` from behind that no batch has answered.
  private var isReadWanted = false
  private var isDelivering = false
  /// `close_notify` came and was reported.
  private var isInputEnded = false
  /// The socket will deliver nothing more.
  private var isSocketEnded = false
  private var hasReportedError = false

  private var writes = MarkedCircularBuffer<PendingWrite>(initialCapacity: 4)
  private var outputEnd = OutputEnd.open
  private var lingerTimer: Scheduled<Void>?
  private var ticketTimer: Scheduled<Void>?

  /// Output waits for what its owner writes at once when the handshake is done: the client's last flight and
  /// its first request are one write then.
  private var isCorked = false
  private var corkedPromises: [EventLoopPromise<Void>] = []

  private struct PendingWrite {
    var bytes: ByteBuffer
    var promise: EventLoopPromise<Void>?
  }

  /// Where our own end of stream is.
  private enum OutputEnd {
    case open
    /// Asked for while the handshake ran.
    case wanted(EventLoopPromise<Void>?)
    /// In the socket's hands.
    case sent
    /// The kernel has it.
    case written
  }

  /// - Parameters:
  ///   - tickets: where a client keeps what the server gives it for resumption.
  ///   - handshakePromise: succeeds once the peer is verified, or fails with the reason why there is no
  ///     session. The handler completes it in every case, if it was added to a pipeline.
  ///   - metrics: where the session is counted.
  init(
    _ session: TLSSession,
    tickets: SessionTickets? = nil,
    handshakePromise: EventLoopPromise<Void>? = nil,
    metrics: TLSMetrics? = nil
  ) {
    self.session = session
    self.metrics = metrics
    self.tickets = tickets
    self.handshakePromise = handshakePromise
  }

  /// Whether the session goes on from an earlier one.
  var isResumed: Bool { session.isResumed }
}

// MARK: Life

extension GnuTLSHandler {
  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { start(context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    start(context)
    context.fireChannelActive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard state == .idle else { return }
    state = .handshaking
    handshakeStart = .now()
    continueHandshake(context)
  }

  private func continueHandshake(_ context: ChannelHandlerContext) {
    do {
      let isDone = try session.handshake()
      isCorked = isDone
      sendOutput(context)
      if isDone {
        opened(context)
      } else if isSocketEnded {
        fail(TLSError(kind: .truncated, message: "the peer closed during the TLS handshake"), context)
      } else {
        context.read()
      }
    } catch {
      fail(error, context)
    }
  }

  private func opened(_ context: ChannelHandlerContext) {
    state = .open
    hasBeenOpen = true
    metrics?.handshakeDone(after: .now() - handshakeStart, isResumed: session.isResumed)
    handshakePromise?.succeed()
    handshakePromise = nil
    if writes.hasMark { flush(context: context) }
    uncork(context)
    if state == .open && session.owesTicket { scheduleTicket(context) }
    if case .wanted(let promise) = outputEnd {
      outputEnd = .open
      endOutput(context, promise)
    }
    deliver(context)
    if isSocketEnded { socketEnded(context) }
  }

  private func uncork(_ context: ChannelHandlerContext) {
    guard isCorked else { return }
    isCorked = false
    let promises = corkedPromises
    corkedPromises = []
    sendOutput(context, completing: promises)
  }

  private func scheduleTicket(_ context: ChannelHandlerContext) {
    ticketTimer = context.eventLoop.assumeIsolated().scheduleTask(in: GnuTLSHandler.ticketDelay) {
      guard self.state == .open, case .open = self.outputEnd else { return }
      self.session.sendTicket()
      self.sendOutput(context)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    isSocketEnded = true
    switch state {
    case .open:
      // The last chance for what was received and not asked for yet.
      while state == .open && !isInputEnded && !isDelivering {
        isReadWanted = true
        deliver(context)
      }
      if !isInputEnded { report(TLSSession.truncation, context) }
    case .idle, .handshaking:
      report(TLSError(kind: .truncated, message: "the peer closed during the TLS handshake"), context)
    case .failing, .closed: ()
    }
    finish()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish()
  }

  /// Nothing comes in or goes out any more.
  private func finish() {
    state = .closed
    lingerTimer?.cancel()
    ticketTimer?.cancel()
    failHandshake(ChannelError.ioOnClosedChannel)
    failWrites()
  }

  private func failHandshake(_ error: any Error) {
    handshakePromise?.fail(error)
    handshakePromise = nil
  }

  private func failWrites() {
    let failed = writes
    writes = MarkedCircularBuffer(initialCapacity: 0)
    if case .wanted(let promise) = outputEnd {
      outputEnd = .written
      promise?.fail(ChannelError.ioOnClosedChannel)
    }
    let corked = corkedPromises
    isCorked = false
    corkedPromises = []
    for promise in corked { promise.fail(ChannelError.ioOnClosedChannel) }
    for write in failed { write.promise?.fail(ChannelError.ioOnClosedChannel) }
  }
}

// MARK: Inbound

extension GnuTLSHandler {
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if state == .handshaking || state == .open && !isInputEnded { session.receive(unwrapInboundIn(data)) }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    switch state {
    case .handshaking: continueHandshake(context)
    case .open: deliver(context)
    case .failing: context.read()
    case .idle, .closed: ()
    }
  }

  func read(context: ChannelHandlerContext) {
    isReadWanted = true
    if state == .open { deliver(context) }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent {
      isSocketEnded = true
      socketEnded(context)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    report(error, context)
  }

  private func socketEnded(_ context: ChannelHandlerContext) {
    switch state {
    case .handshaking: continueHandshake(context)
    case .open:
      // With nothing left to decrypt there is no reason to wait until somebody asks.
      if session.readableBytesEstimate == 0 { isReadWanted = true }
      deliver(context)
    case .failing: close(context)
    case .idle, .closed: ()
    }
  }

  /// Answers a `read()` with plaintext, an end, or a `read()` of the socket.
  private func deliver(_ context: ChannelHandlerContext) {
    guard !isDelivering else { return }
    isDelivering = true
    defer { isDelivering = false }
    while isReadWanted && state == .open && !isInputEnded {
      let size = min(max(session.readableBytesEstimate, 64), GnuTLSHandler.batchSize)
      var batch = context.channel.allocator.buffer(capacity: size)
      let result = session.read(into: &batch)
      sendOutput(context)
      if let tickets, let ticket = session.takeTicket() { tickets.add(ticket) }
      if batch.readableBytes > 0 {
        isReadWanted = false
        context.fireChannelRead(wrapInboundOut(batch))
        context.fireChannelReadComplete()
      }
      act(on: result, context)
      if case .starved = result, isReadWanted, state == .open { return context.read() }
    }
  }

  private func act(on result: TLSSession.ReadResult, _ context: ChannelHandlerContext) {
    guard state == .open else { return }
    switch result {
    case .full: ()
    case .starved:
      if isSocketEnded { fail(TLSSession.truncation, context) }
    case .ended:
      isInputEnded = true
      context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
      closeIfBothEnded(context)
    case .failed(let error): fail(error, context)
    }
  }
}

// MARK: Outbound

extension GnuTLSHandler {
  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard state != .failing && state != .closed else {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    guard case .open = outputEnd else {
      promise?.fail(ChannelError.outputClosed)
      return
    }
    writes.append(PendingWrite(bytes: unwrapOutboundIn(data), promise: promise))
  }

  func flush(context: ChannelHandlerContext) {
    writes.mark()
    guard state == .open else { return }
    do {
      let promises = try encryptFlushed()
      sendOutput(context, completing: promises)
    } catch {
      fail(error, context)
    }
  }

  /// Encrypts all writes up to the mark, and returns the promises that wait for them.
  private func encryptFlushed() throws(TLSError) -> [EventLoopPromise<Void>] {
    guard let mark = writes.markedElementIndex else { return [] }
    let count = writes.distance(from: writes.startIndex, to: mark) + 1
    var promises: [EventLoopPromise<Void>] = []
    var encryption = RecordPacking(session)
    let total = writes.prefix(count).reduce(0) { $0 + $1.bytes.readableBytes }
    session.reserveOutput(forPlaintext: total)
    ticketTimer?.cancel()
    ticketTimer = nil
    do {
      for index in 0..<count {
        let write = writes.removeFirst()
        if let promise = write.promise { promises.append(promise) }
        try encryption.add(write.bytes, isLast: index == count - 1)
      }
    } catch {
      for promise in promises { promise.fail(error) }
      throw error
    }
    return promises
  }

  /// Gives the socket what the session wants sent.
  ///
  /// - Parameter promises: completed when the kernel has it.
  private func sendOutput(
    _ context: ChannelHandlerContext,
    completing promises: [EventLoopPromise<Void>] = []
  ) {
    if isCorked { return corkedPromises += promises }
    let output = session.takeOutput()
    if output == nil && promises.isEmpty { return }
    // Without output there were empty writes, whose promises still wait for what was written before them.
    let bytes = wrapOutboundOut(output ?? ByteBuffer())
    guard promises.count > 1 else {
      context.writeAndFlush(bytes, promise: promises.first)
      return
    }
    let written = context.eventLoop.makePromise(of: Void.self)
    written.futureResult.whenComplete { result in
      for promise in promises { promise.completeWith(result) }
    }
    context.writeAndFlush(bytes, promise: written)
  }

  func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?)
  {
    // From here on no `close_notify` is sent: to the peer the stream must look broken.
    if event is StreamAbort {
      if state == .handshaking { metrics?.failed(.timeout) }
      finish()
    }
    context.triggerUserOutboundEvent(event, promise: promise)
  }
}

// MARK: Ends

extension GnuTLSHandler {
  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    switch mode {
    case .all: closeAll(context, promise)
    case .output: endOutput(context, promise)
    case .input: promise?.fail(ChannelError.operationUnsupported)
    }
  }

  private func closeAll(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    if state == .failing {
      // The peer still reads our alert; the close follows.
      context.channel.closeFuture.cascade(to: promise)
      return
    }
    if state == .handshaking { metrics?.failed(.timeout) }
    uncork(context)
    if state == .open, case .open = outputEnd, (try? session.endOutput()) != nil { sendOutput(context) }
    finish()
    context.close(promise: promise)
  }

  private func endOutput(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    guard case .open = outputEnd else {
      promise?.fail(ChannelError.outputClosed)
      return
    }
    switch state {
    case .idle, .handshaking: outputEnd = .wanted(promise)
    case .open: sendEnd(context, promise)
    case .failing, .closed: promise?.fail(ChannelError.ioOnClosedChannel)
    }
  }

  private func sendEnd(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    writes.mark()
    do {
      var promises = try encryptFlushed()
      try session.endOutput()
      outputEnd = .sent
      let written = context.eventLoop.makePromise(of: Void.self)
      written.futureResult.assumeIsolated().whenSuccess {
        self.outputEnd = .written
        promise?.succeed()
        context.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
        self.closeIfBothEnded(context)
      }
      if let promise { written.futureResult.cascadeFailure(to: promise) }
      promises.append(written)
      sendOutput(context, completing: promises)
    } catch {
      promise?.fail(error)
      fail(error, context)
    }
  }

  private func closeIfBothEnded(_ context: ChannelHandlerContext) {
    guard state == .open, isInputEnded, case .written = outputEnd else { return }
    close(context)
  }

  /// Closes the socket without another word.
  private func close(_ context: ChannelHandlerContext) {
    finish()
    context.close(promise: nil)
  }

  /// Ends the session by an error of TLS: the peer gets the alert that the session has ready, if it has one.
  private func fail(_ error: TLSError, _ context: ChannelHandlerContext) {
    guard state == .handshaking || state == .open else { return }
    state = .failing
    let alert = session.takeOutput()
    if let alert { context.writeAndFlush(wrapOutboundOut(alert), promise: nil) }
    report(error, context)
    failWrites()
    guard state == .failing else { return }
    if alert == nil || isSocketEnded { return close(context) }
    lingerTimer = context.eventLoop.assumeIsolated().scheduleTask(in: GnuTLSHandler.lingerTime) {
      self.close(context)
    }
    context.read()
  }

  /// Tells the handlers behind, and whoever waits for the handshake, about the first error alone.
  private func report(_ error: any Error, _ context: ChannelHandlerContext) {
    guard !hasReportedError else { return }
    hasReportedError = true
    // What breaks an open socket is not an error of TLS.
    if !hasBeenOpen || error is TLSError {
      metrics?.failed(TLSFailureCause(error, isHandshaking: !hasBeenOpen))
    }
    failHandshake(error)
    context.fireErrorCaught(error)
  }
}

extension TLSSession {
  fileprivate static let truncation = TLSError(
    kind: .truncated,
    message: "the connection ended without close_notify: bytes may be missing"
  )
}
