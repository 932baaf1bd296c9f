import NIOCore

/// The client's end of a control stream: it asks the tunnel's server for reports on one leg.
///
/// The last handler of a stream from `TunnelTransport.openStream`. All calls on the channel's event loop.
///
///     asking ── 101 ──► agreed ── close, end, error ──► over, the channel is closed
///        └── refusal, deadline, close, end, error ───────►
public final class PathReportClient: ChannelInboundHandler {
  /// What it reads.
  public typealias InboundIn = ByteBuffer
  /// What it writes.
  public typealias OutboundOut = ByteBuffer

  /// What its owner is told, on the event loop. The owner may be freed before it: capture it weakly.
  public struct Callbacks {
    /// The server agreed: queries may be sent.
    public var agreed: () -> Void
    /// The server answered a query.
    public var report: (PathReport) -> Void
    /// It is over; told once, whatever happened before, and nothing after it.
    public var ended: (PathReportError) -> Void

    /// Callbacks from their parts.
    public init(
      agreed: @escaping () -> Void = {},
      report: @escaping (PathReport) -> Void,
      ended: @escaping (PathReportError) -> Void
    ) {
      self.agreed = agreed
      self.report = report
      self.ended = ended
    }
  }

  private enum State { case idle, asking, agreed, over }

  private var state = State.idle
  private var exchange: PathReportExchange
  private var received = ByteBuffer()
  private let deadline: NIODeadline
  private var callbacks: Callbacks?
  private var context: ChannelHandlerContext?
  private var timer: Scheduled<Void>?

  /// Put it last into the pipeline of an open stream; it sends its request at once.
  ///
  /// - Parameters:
  ///   - leg: whose counts are wanted.
  ///   - credentials: those of the transport.
  ///   - host: the value of `Host` in the request.
  ///   - deadline: when it gives up waiting for the server to agree.
  public init(
    leg: LegID,
    credentials: Credentials?,
    host: String = "magicalane.invalid",
    deadline: NIODeadline,
    callbacks: Callbacks
  ) {
    exchange = PathReportExchange(leg: leg, credentials: credentials, host: host)
    self.deadline = deadline
    self.callbacks = callbacks
  }

  /// Asks what the server counted.
  ///
  /// - Returns: the query's number, which its report has too; nil where the server has not agreed, or no more.
  public func query() -> UInt64? {
    guard case .agreed = state, let context, let (number, bytes) = exchange.query() else { return nil }
    context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    return number
  }

  /// Ends the stream; `ended` is told of it.
  public func close() {
    end(.closed)
  }
}

// MARK: - What the channel says

extension PathReportClient {
  /// Begins where the channel is active.
  public func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.end(.lost("no answer in time"))
    }
    if context.channel.isActive { start(context) }
  }

  /// Ends where it has not.
  public func handlerRemoved(context: ChannelHandlerContext) {
    end(.lost("the stream was closed"))
    self.context = nil
  }

  /// Begins.
  public func channelActive(context: ChannelHandlerContext) {
    start(context)
    context.fireChannelActive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard case .idle = state else { return }
    state = .asking
    context.writeAndFlush(wrapOutboundOut(exchange.request), promise: nil)
    context.read()
  }

  /// Tells what the bytes say.
  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    received.writeImmutableBuffer(unwrapInboundIn(data))
    received.discardReadBytes()
    do {
      while isLive, let event = try exchange.receive(&received) { tell(event) }
    } catch {
      end(error)
    }
  }

  /// Asks for the next batch.
  public func channelReadComplete(context: ChannelHandlerContext) {
    if isLive { context.read() }
  }

  /// The server's end of stream ends it.
  public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case ChannelEvent.inputClosed = event else { return context.fireUserInboundEventTriggered(event) }
    end(.lost("the server ended the stream"))
  }

  /// An error ends it.
  public func errorCaught(context: ChannelHandlerContext, error: any Error) {
    end(.lost("\(error)"))
  }

  /// Ends where it has not.
  public func channelInactive(context: ChannelHandlerContext) {
    end(.lost("the stream was closed"))
    context.fireChannelInactive()
  }

  private var isLive: Bool {
    switch state {
    case .asking, .agreed: true
    case .idle, .over: false
    }
  }

  private func tell(_ event: PathReportExchange.Event) {
    switch event {
    case .agreed:
      state = .agreed
      timer?.cancel()
      callbacks?.agreed()
    case .report(let report): callbacks?.report(report)
    }
  }

  private func end(_ error: PathReportError) {
    if case .over = state { return }
    state = .over
    timer?.cancel()
    let callbacks = callbacks
    self.callbacks = nil
    if case .violation(let reason) = error {
      context?.channel.abort(reason: reason)
    } else {
      context?.close(promise: nil)
    }
    callbacks?.ended(error)
  }
}
