import NIOCore

/// One end of a duplex: the last handler of one stream's pipeline. It reads its own stream and writes the
/// partner's.
final class DuplexEnd: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// Where the flow that starts at this end is; drawn at `Duplex`.
  enum Flow { case open, draining, finished }

  private let direction: Duplex.Direction
  private let bytesRead: ByteCounter
  /// For what waits to be sent in a stream that does not count it itself.
  private var claim: MemoryClaim
  private(set) var flow = Flow.open

  // The duplex and its ends hold each other until the duplex ends; `detach` parts them.
  private var duplex: Duplex?
  private var partner: DuplexEnd?
  private(set) var context: ChannelHandlerContext?
  private var wroteSinceFlush = false
  /// The duplex wants to see what is read, for the target's stream can still be replaced.
  var isWatched = false
  /// Bytes of the batch that is being read.
  private var batch = 0
  /// A batch was asked for and has not come.
  private var isReading = false
  /// The end of stream was written behind the last byte; a failure to deliver it comes by the promise.
  private var isOutputClosed = false

  /// - Parameter bytesRead: counts what this end reads.
  init(reads direction: Duplex.Direction, counting bytesRead: ByteCounter, memory: MemoryBudget) {
    self.direction = direction
    self.bytesRead = bytesRead
    claim = MemoryClaim(memory)
  }

  /// What the partner read and this end's stream has not taken yet.
  var waiting: Int {
    (try? context?.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
  }

  func attach(to duplex: Duplex, partner: DuplexEnd) {
    self.duplex = duplex
    self.partner = partner
  }

  func detach() {
    countBatch()
    duplex = nil
    partner = nil
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
  }

  func close() {
    context?.close(promise: nil)
  }

  func abort(reason: String) {
    context?.channel.abort(reason: reason)
  }
}

// MARK: Bytes

extension DuplexEnd {
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    batch += bytes.readableBytes
    if isWatched { duplex?.willPass(bytes, direction) }
    partner?.write(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReading = false
    countBatch()
    partner?.flush()
    readIfWanted()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    countWaiting(context.channel)
    if context.channel.isWritable { partner?.readIfWanted() }
    context.fireChannelWritabilityChanged()
  }

  /// Below its high-water mark a stream counts as empty: then it moves.
  private func countWaiting(_ channel: any Channel) {
    if channel is any MemoryCounting { return }
    claim.hold(channel.isWritable ? 0 : waiting)
  }

  private func countBatch() {
    let count = batch
    guard count > 0 else { return }
    // First, for what the duplex does next may lead back here.
    batch = 0
    bytesRead.add(count)
    duplex?.moved(count, direction)
  }

  /// Asks for one more batch, unless the partner has enough waiting already.
  func readIfWanted() {
    guard flow == .open, !isReading, let context, let partner, partner.isWritable,
      duplex?.holdsReads == false
    else { return }
    isReading = true
    context.read()
  }

  private var isWritable: Bool { context?.channel.isWritable ?? false }

  private func write(_ data: NIOAny) {
    wroteSinceFlush = true
    context?.write(data, promise: nil)
  }

  private func flush() {
    guard wroteSinceFlush else { return }
    wroteSinceFlush = false
    context?.flush()
  }
}

// MARK: Ends

extension DuplexEnd {
  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent {
      reachedEndOfStream()
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    duplex?.failed(direction, error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    // A NIO socket whose output is closed closes at its peer's end of stream, without `inputClosed`. Had
    // something broken, an error would have come first.
    if flow == .open && isOutputClosed { reachedEndOfStream() }
    // A stream that gave its last byte and was given its last one may close while the other still drains.
    if flow == .open || !isOutputClosed {
      duplex?.failed(direction, Duplex.UncleanEnd())
    }
    context.fireChannelInactive()
  }

  private func reachedEndOfStream() {
    guard flow == .open, let partner else { return }
    if isWatched { duplex?.willPassEnd(direction) }
    flow = .draining
    partner.closeOutput(after: self)
  }

  /// Sends the end of stream on, behind everything that still waits.
  private func closeOutput(after source: DuplexEnd) {
    flush()
    guard let context else { return }
    let closed = context.eventLoop.makePromise(of: Void.self)
    closed.futureResult.assumeIsolated().whenComplete { source.drained($0, into: self) }
    if flow == .open {
      isOutputClosed = true
      context.close(mode: .output, promise: closed)
    } else {
      // A socket whose input has ended takes this close for a full one, and a full one drops what waits.
      let written = context.eventLoop.makePromise(of: Void.self)
      context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: written)
      written.futureResult.assumeIsolated().whenComplete { result in
        switch result {
        case .success:
          self.isOutputClosed = true
          context.close(mode: .output, promise: closed)
        case .failure(let error): closed.fail(error)
        }
      }
    }
  }

  private func drained(_ result: Result<Void, any Error>, into end: DuplexEnd) {
    // What became of a stream that was replaced says nothing any more.
    guard let duplex, end === partner else { return }
    switch result {
    case .success:
      flow = .finished
      duplex.endsChanged()
    case .failure(let error):
      duplex.failed(direction.opposite, error)
    }
  }
}

// MARK: Replacement

extension DuplexEnd {
  /// Gives a new partner what the one before it was given: the bytes, then the end of stream if it has come.
  func sendAgain(_ batches: [ByteBuffer]) {
    guard let partner else { return }
    for bytes in batches { partner.write(NIOAny(bytes)) }
    partner.flush()
    // To write may have broken that stream, too.
    guard flow != .open, partner === self.partner else { return }
    flow = .draining
    partner.closeOutput(after: self)
  }
}
