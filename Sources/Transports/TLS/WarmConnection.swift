import NIOCore

/// The last handler of a connection that nobody uses yet; after it is taken, it sees whether an answer comes.
///
///     waiting ──take──► taken ──first bytes──► out of the pipeline
///        ├──its time is over──► retired, closes with the peer
///        └──the peer ends it, sends anything, error──► lost, closed
///
/// While it waits it has a `read()` out, so that it sees the peer's end, and that the session's ticket is not
/// left unread.
final class WarmConnection: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private enum State { case waiting, taken, retired, lost }

  /// How long it waits before it is closed: well under the 10 s that a server gives a silent client.
  static let lifetime = TimeAmount.seconds(4)
  /// How long the peer has to end its side of one that was not used.
  private static let lingerTime = TimeAmount.seconds(1)

  let channel: any Channel
  /// Whether the peer sent anything after it was taken.
  private(set) var hasAnswered = false
  private var state = State.waiting
  private var timer: Scheduled<Void>?
  private let left: (WarmConnection, Departure) -> Void

  /// Why it waits no more, other than that it was taken.
  enum Departure { case retired, lost }

  /// - Parameter left: told once when it is of no use any more, unless it was taken before.
  init(_ channel: any Channel, left: @escaping (WarmConnection, Departure) -> Void) {
    self.channel = channel
    self.left = left
  }

  /// - Returns: whether it can be used; nobody else gets it then.
  func take() -> Bool {
    guard state == .waiting, channel.isActive else { return false }
    state = .taken
    timer?.cancel()
    return true
  }

  func handlerAdded(context: ChannelHandlerContext) {
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: WarmConnection.lifetime) {
      self.retire(context)
    }
    context.read()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    timer?.cancel()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard state == .taken else { return lose(context) }
    hasAnswered = true
    context.fireChannelRead(data)
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if state == .waiting, case .inputClosed? = event as? ChannelEvent { lose(context) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard state != .taken else { return context.fireErrorCaught(error) }
    lose(context)
  }

  func channelInactive(context: ChannelHandlerContext) {
    lose(context)
    context.fireChannelInactive()
  }

  private func retire(_ context: ChannelHandlerContext) {
    guard state == .waiting else { return }
    state = .retired
    left(self, .retired)
    context.close(mode: .output, promise: nil)
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: WarmConnection.lingerTime) {
      context.close(promise: nil)
    }
  }

  private func lose(_ context: ChannelHandlerContext) {
    guard state == .waiting else { return }
    state = .lost
    left(self, .lost)
    context.close(promise: nil)
  }
}
