import DequeModule
import NIOCore

/// Connections to one server that are connected and handshaken before a session asks for one, so that it need
/// not wait for that.
///
/// There are as many as `WarmDemand` wants; each use makes up for what is missing, and nothing else does, so that
/// all are gone a few seconds after the last session. Not thread-safe: it and its connections live on one event
/// loop.
final class WarmConnections {
  private let loop: any EventLoop
  private let connect: () -> EventLoopFuture<any Channel>
  private var demand: WarmDemand
  /// The oldest first, for it has the least time left.
  private var waiting = Deque<WarmConnection>()
  private var connecting = 0
  private var isShutDown = false

  /// - Parameters:
  ///   - limit: most connections that wait or are being made.
  ///   - connect: opens one on `loop`, in bounded time.
  init(limit: Int, on loop: any EventLoop, connect: @escaping () -> EventLoopFuture<any Channel>) {
    self.loop = loop
    self.connect = connect
    demand = WarmDemand(limit: limit)
  }

  /// How many could be taken now.
  var count: Int { waiting.count }

  /// A connection that works as far as anybody knows, for a stream that is wanted now; nil where there is none.
  func take() -> WarmConnection? {
    guard !isShutDown else { return nil }
    let wanted = demand.opening(at: loop.now)
    var taken = waiting.popFirst()
    while let found = taken, !found.take() { taken = waiting.popFirst() }
    // The session that is being opened comes first.
    if missing(wanted) { loop.assumeIsolated().execute { self.refill(wanted) } }
    return taken
  }

  /// Closes those that wait, and those that are being made when they are done.
  func shutDown() -> EventLoopFuture<Void> {
    isShutDown = true
    let closing = waiting.map { $0.channel.close() }
    waiting.removeAll()
    return .andAllComplete(closing, on: loop)
  }

  private func missing(_ wanted: Int) -> Bool {
    !isShutDown && waiting.count + connecting < wanted
  }

  private func refill(_ wanted: Int) {
    while missing(wanted) {
      connecting += 1
      connect().assumeIsolated().whenComplete { self.connected($0) }
    }
  }

  private func connected(_ result: Result<any Channel, any Error>) {
    connecting -= 1
    switch result {
    case .success(let channel) where isShutDown || !channel.isActive: channel.close(promise: nil)
    case .success(let channel): keep(channel)
    // The next session will say what is wrong; more attempts would only press a server in trouble.
    case .failure: demand.forget()
    }
  }

  private func keep(_ channel: any Channel) {
    let connection = WarmConnection(channel) { [weak self] in self?.left($0, $1) }
    waiting.append(connection)
    do {
      try channel.pipeline.syncOperations.addHandler(connection)
    } catch {
      left(connection, .lost)
      channel.close(promise: nil)
    }
  }

  private func left(_ connection: WarmConnection, _ departure: WarmConnection.Departure) {
    waiting.removeAll { $0 === connection }
    if departure == .lost { demand.forget() }
  }
}
