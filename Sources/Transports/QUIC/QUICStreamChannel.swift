import MagicalaneCore
import NIOCore
import Synchronization

/// The connection that a stream channel lives in, as the channel sees it.
protocol QUICStreamHost: AnyObject {
  var connection: QUICConnection { get }
  /// Asks for a turn soon: news for streams are told, packets written.
  func needsService()
  /// The channel became inactive.
  func streamEnded(_ channel: QUICStreamChannel)
}

/// A QUIC stream as a NIO channel, with the rules that `Transport` states for streams.
///
/// - A write's promise succeeds when its bytes are handed to the connection, at `flush`; they then reach the
///   peer unless stream or connection fail, also where the channel is closed before.
/// - `read()` yields at most one `channelRead`, with all that has arrived, and only then may the peer send as
///   much more. The end of the input comes with the last bytes.
/// - `close()` is what it is for TCP: the output ends cleanly behind the bytes that were flushed; input that
///   has not ended is refused (STOP_SENDING).
///
///     idle ── activate ──► active ── both directions over, close, abort, error ──► inactive
///
// Unchecked: all state but the two atomics is touched on the event loop alone.
final class QUICStreamChannel: MemoryCounting, ChannelCore, @unchecked Sendable {
  private enum State { case idle, active, inactive }

  /// So much may wait even where nothing is in flight, if the buffer is not smaller.
  private static let alwaysHeld = 1 << 20

  let allocator = ByteBufferAllocator()
  let eventLoop: any EventLoop
  let parent: (any Channel)?
  let localAddress: SocketAddress?
  let remoteAddress: SocketAddress?
  var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
  var pipeline: ChannelPipeline { _pipeline }
  var _channelCore: any ChannelCore { self }
  var isWritable: Bool { mayWrite.load(ordering: .relaxed) }
  var isActive: Bool { hasBegun.load(ordering: .relaxed) }

  // A pipeline needs its channel to be made; set in the initializer and never again.
  private var _pipeline: ChannelPipeline!
  private let closePromise: EventLoopPromise<Void>
  private let hasBegun = Atomic(false)
  private let mayWrite = Atomic(true)
  let host: any QUICStreamHost
  private let stream: QUICStream

  private var state = State.idle
  /// Since the last flush.
  private var pendingWrites: [(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
  private var pendingBytes = 0
  private var waterMark: ChannelOptions.Types.WriteBufferWaterMark
  private var isOutputClosed = false
  private var isInputClosed = false
  private var readPending = false
  private var isDelivering = false
  private var autoRead = false
  private var allowsRemoteHalfClosure = true

  /// - Parameter buffer: most bytes that may wait to be sent or acknowledged.
  init(
    _ stream: QUICStream,
    host: any QUICStreamHost,
    parent: (any Channel)?,
    on loop: any EventLoop,
    buffer: Int
  ) {
    self.stream = stream
    self.host = host
    self.parent = parent
    eventLoop = loop
    localAddress = parent?.localAddress
    remoteAddress = host.connection.remoteAddress
    closePromise = loop.makePromise()
    // What is in flight waits here too, so a low mark far below would let the path run empty. The last quarter
    // of the buffer is for the batch that crosses the mark.
    let high = max(1, buffer / 4 * 3)
    waterMark = .init(low: max(1, high / 8 * 7), high: high)
    _pipeline = ChannelPipeline(channel: self)
    stream.user = self
  }

  /// Makes the channel active: its handlers are in place.
  func activate() {
    guard state == .idle else { return }
    state = .active
    hasBegun.store(true, ordering: .relaxed)
    pipeline.fireChannelActive()
    if autoRead && state == .active { pipeline.read() }
    streamChanged()
  }

  /// Ends a stream that nobody takes.
  func refuse() {
    end(output: .reset(QUICApplicationCode.refused), input: QUICApplicationCode.refused, error: nil)
  }
}

// MARK: - What the connection reports

extension QUICStreamChannel: QUICStreamUser {
  func streamChanged() {
    guard state == .active else { return }
    if let code = stream.resetCode, !isInputClosed {
      return fail(.reset(code: code))
    }
    deliver()
    failIfUnwanted()
    updateWritability()
  }

  func connectionLost(_ error: QUICConnectionError) {
    fail(.connectionLost(error))
  }

  /// A peer that wants no more of us may still have something to say, so what it sends is read to its end
  /// first. Then it is an error if we had more to say, as it is where one writes to a closed TCP connection.
  private func failIfUnwanted() {
    guard state == .active, stream.isStopped, stream.isOutputLost, isInputClosed, !isOutputClosed else {
      return
    }
    fail(.stopped)
  }

  private func deliver() {
    guard !isDelivering else { return }
    isDelivering = true
    while state == .active && readPending && !isInputClosed && stream.received.readableBytes > 0 {
      readPending = false
      let bytes = host.connection.take(from: stream)
      host.needsService()
      pipeline.fireChannelRead(bytes)
      deliverEnd()
      if state == .active { pipeline.fireChannelReadComplete() }
      if autoRead && state == .active && !isInputClosed { pipeline.read() }
    }
    if readPending && stream.received.readableBytes == 0 { deliverEnd() }
    isDelivering = false
  }

  private func deliverEnd() {
    guard state == .active, !isInputClosed, stream.isInputFinished, stream.received.readableBytes == 0 else {
      return
    }
    isInputClosed = true
    readPending = false
    pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    guard state == .active else { return }
    if isOutputClosed || !allowsRemoteHalfClosure { end(output: .finish, input: nil, error: nil) }
  }

  private func updateWritability() {
    let waiting = pendingBytes + (stream.isOutputDead ? 0 : stream.output.held)
    // Twice what is in flight keeps the path full; more would only wait, and cost memory where a peer reads
    // slowly or not at all.
    let wanted = min(waterMark.high, max(2 * stream.output.inFlight, QUICStreamChannel.alwaysHeld))
    let high = host.connection.settings.windows.memory.room(of: wanted)
    let low = min(waterMark.low, max(1, high / 8 * 7))
    let wasWritable = isWritable
    guard wasWritable != (wasWritable ? waiting <= high : waiting < low) else { return }
    mayWrite.store(!wasWritable, ordering: .relaxed)
    if state == .active { pipeline.fireChannelWritabilityChanged() }
  }
}

// MARK: - What handlers ask for

extension QUICStreamChannel {
  func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard state != .inactive else { return fail(promise, ChannelError.ioOnClosedChannel) }
    guard !isOutputClosed else { return fail(promise, ChannelError.outputClosed) }
    if stream.isStopped {
      stream.isOutputLost = true
      host.connection.markChanged(stream)
      host.needsService()
      return fail(promise, QUICStreamError.stopped)
    }
    guard let bytes = tryUnwrapData(data, as: ByteBuffer.self) else {
      return fail(promise, ChannelError.operationUnsupported)
    }
    pendingWrites.append((bytes, promise))
    pendingBytes += bytes.readableBytes
    updateWritability()
  }

  func flush0() {
    guard state != .inactive, !pendingWrites.isEmpty else { return }
    // What a promise's listener writes waits for a flush of its own.
    let writes = pendingWrites
    pendingWrites = []
    for (bytes, promise) in writes {
      pendingBytes -= bytes.readableBytes
      host.connection.write(bytes, on: stream)
      promise?.succeed()
    }
    host.needsService()
  }

  func read0() {
    guard state != .inactive, !isInputClosed, !readPending else { return }
    readPending = true
    guard state == .active, !isDelivering, stream.received.readableBytes > 0 || stream.isInputFinished else {
      return
    }
    host.connection.markChanged(stream)
    host.needsService()
  }

  func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    guard state != .inactive else { return fail(promise, ChannelError.alreadyClosed) }
    switch mode {
    case .output:
      guard !isOutputClosed else { return fail(promise, ChannelError.outputClosed) }
      closeOutput()
    case .input:
      guard !isInputClosed else { return fail(promise, ChannelError.inputClosed) }
      closeInput()
    case .all:
      end(output: .finish, input: QUICApplicationCode.none, error: nil)
    }
    promise?.succeed()
  }

  private func closeOutput() {
    flush0()
    isOutputClosed = true
    host.connection.finish(stream)
    host.needsService()
    pipeline.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
    if isInputClosed && state == .active { end(output: .finish, input: nil, error: nil) }
  }

  private func closeInput() {
    isInputClosed = true
    host.connection.stop(stream, code: QUICApplicationCode.none)
    host.needsService()
    pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    if isOutputClosed && state == .active { end(output: .finish, input: nil, error: nil) }
  }

  func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
    guard event is StreamAbort else { return fail(promise, ChannelError.operationUnsupported) }
    guard state != .inactive else { return fail(promise, ChannelError.alreadyClosed) }
    end(output: .reset(QUICApplicationCode.aborted), input: QUICApplicationCode.aborted, error: nil)
    promise?.succeed()
  }

  private func fail(_ promise: EventLoopPromise<Void>?, _ error: any Error) {
    promise?.fail(error)
  }
}

// MARK: - The end

extension QUICStreamChannel {
  private enum OutputEnd {
    /// A FIN behind what was flushed, if there was none yet.
    case finish
    case reset(UInt64)
  }

  private func fail(_ error: QUICStreamError) {
    end(output: .reset(QUICApplicationCode.aborted), input: QUICApplicationCode.aborted, error: error)
  }

  /// - Parameter input: the code with which input that has not ended is refused.
  private func end(output: OutputEnd, input: UInt64?, error: QUICStreamError?) {
    guard state != .inactive else { return }
    let wasActive = state == .active
    state = .inactive
    stream.user = nil
    hasBegun.store(false, ordering: .relaxed)
    mayWrite.store(false, ordering: .relaxed)
    switch output {
    case .finish: host.connection.finish(stream)
    case .reset(let code): host.connection.reset(stream, code: code)
    }
    if let input, !isInputClosed { host.connection.stop(stream, code: input) }
    host.needsService()
    failPendingWrites(error ?? ChannelError.ioOnClosedChannel)
    if let error { pipeline.fireErrorCaught(error) }
    if wasActive { pipeline.fireChannelInactive() }
    host.streamEnded(self)
    // Handlers may be on the stack; they are removed when they have returned, as NIO's own channels do.
    eventLoop.execute {
      self.removeHandlers(pipeline: self.pipeline)
      self.closePromise.succeed()
    }
  }

  private func failPendingWrites(_ error: any Error) {
    let writes = pendingWrites
    pendingWrites = []
    pendingBytes = 0
    for (_, promise) in writes { promise?.fail(error) }
  }
}

// MARK: - What does not apply to streams

extension QUICStreamChannel {
  func localAddress0() throws -> SocketAddress {
    guard let localAddress else { throw ChannelError.unknownLocalAddress }
    return localAddress
  }
  func remoteAddress0() throws -> SocketAddress {
    guard let remoteAddress else { throw ChannelError.operationUnsupported }
    return remoteAddress
  }
  func register0(promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }
  func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  /// What reaches the end of the pipeline was meant for nobody.
  func channelRead0(_ data: NIOAny) {}
  func errorCaught0(error: any Error) {}
}

// MARK: - Options

extension QUICStreamChannel {
  func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
    onLoop { try self.set(option, value) }
  }

  func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
    onLoop { try self.get(option) }
  }

  private func onLoop<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) -> EventLoopFuture<
    Value
  > {
    eventLoop.inEventLoop ? eventLoop.makeCompletedFuture { try body() } : eventLoop.submit(body)
  }

  var syncOptions: (any NIOSynchronousChannelOptions)? { SynchronousOptions(channel: self) }

  private struct SynchronousOptions: NIOSynchronousChannelOptions {
    let channel: QUICStreamChannel
    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
      try channel.set(option, value)
    }
    func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value { try channel.get(option) }
  }

  private func set<Option: ChannelOption>(_ option: Option, _ value: Option.Value) throws {
    switch (option, value) {
    case (is ChannelOptions.Types.AutoReadOption, let value as Bool):
      let starts = value && !autoRead
      autoRead = value
      if starts && state == .active { pipeline.read() }
    case (is ChannelOptions.Types.AllowRemoteHalfClosureOption, let value as Bool):
      allowsRemoteHalfClosure = value
    case (
      is ChannelOptions.Types.WriteBufferWaterMarkOption,
      let value as ChannelOptions.Types.WriteBufferWaterMark
    ):
      waterMark = value
      updateWritability()
    case (is ChannelOptions.Types.MaxMessagesPerReadOption, _):
      // A read yields one message, with all that there is.
      return
    default: throw ChannelError.operationUnsupported
    }
  }

  private func get<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
    let value: Any? =
      switch option {
      case is ChannelOptions.Types.AutoReadOption: autoRead
      case is ChannelOptions.Types.AllowRemoteHalfClosureOption: allowsRemoteHalfClosure
      case is ChannelOptions.Types.WriteBufferWaterMarkOption: waterMark
      case is ChannelOptions.Types.MaxMessagesPerReadOption: UInt(1)
      case is ChannelOptions.Types.BufferedWritableBytesOption: pendingBytes + stream.output.held
      default: nil
      }
    guard let value = value as? Option.Value else { throw ChannelError.operationUnsupported }
    return value
  }
}
