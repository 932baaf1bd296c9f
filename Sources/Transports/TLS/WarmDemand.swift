import DequeModule
import NIOCore

/// How many connections are worth being kept warm, judged by when streams were opened.
///
/// It wants as many as were opened in the last seconds, and none for the first: a client that opens one stream
/// now and then pays for no second handshake.
struct WarmDemand {
  /// How far back it looks.
  static let window = TimeAmount.seconds(4)

  private let limit: Int
  private var openings = Deque<NIODeadline>()

  /// - Parameter limit: most connections that it ever wants.
  init(limit: Int) {
    self.limit = limit
  }

  /// Notes that a stream is being opened.
  ///
  /// - Returns: how many connections those that follow could use.
  mutating func opening(at now: NIODeadline) -> Int {
    while let oldest = openings.first, now - oldest > WarmDemand.window { openings.removeFirst() }
    let wanted = openings.count
    if openings.count < limit { openings.append(now) } else if limit > 0 { replaceOldest(now) }
    return wanted
  }

  private mutating func replaceOldest(_ now: NIODeadline) {
    openings.removeFirst()
    openings.append(now)
  }

  /// Begins anew, as after a connection that was made for nothing.
  mutating func forget() {
    openings.removeAll()
  }
}
