import NIOConcurrencyHelpers
import NIOCore

/// The warm connections of one transport, apart for each event loop. Thread-safe.
final class WarmPools: Sendable {
  private struct Pools {
    var byLoop: [ObjectIdentifier: NIOLoopBound<WarmConnections>] = [:]
    var isShutDown = false
  }

  private let limit: Int
  private let dialer: TLSDialer
  private let pools = NIOLockedValueBox(Pools())

  /// - Parameter limit: most connections for one loop; with 0 there are none.
  init(limit: Int, dialer: TLSDialer) {
    self.limit = limit
    self.dialer = dialer
  }

  /// A connection of this loop, if one waits; called on the loop, once for each stream that is opened.
  func take(on loop: any EventLoop) -> WarmConnection? {
    limit > 0 ? pool(on: loop)?.take() : nil
  }

  /// How many wait; called on the loop.
  func count(on loop: any EventLoop) -> Int {
    pools.withLockedValue { $0.byLoop[ObjectIdentifier(loop)]?.value.count ?? 0 }
  }

  private func pool(on loop: any EventLoop) -> WarmConnections? {
    pools.withLockedValue { pools in
      if pools.isShutDown { return nil }
      if let known = pools.byLoop[ObjectIdentifier(loop)] { return known.value }
      let pool = WarmConnections(limit: limit, on: loop) { [dialer] in
        dialer.open(deadline: loop.now + WarmConnection.lifetime, on: loop)
      }
      pools.byLoop[ObjectIdentifier(loop)] = NIOLoopBound(pool, eventLoop: loop)
      return pool
    }
  }

  /// Closes them all; none is made from then on.
  func shutDown() async {
    let closing = pools.withLockedValue { pools in
      pools.isShutDown = true
      defer { pools.byLoop = [:] }
      return Array(pools.byLoop.values)
    }
    for pool in closing {
      try? await pool.eventLoop.flatSubmit { pool.value.shutDown() }.get()
    }
  }
}
