/// Allows so many events per second, and as many at once.
struct TokenBucket {
  private let rate: Double
  private var level: Double
  private var last: UInt64 = 0

  init(perSecond rate: Double) {
    self.rate = rate
    level = rate
  }

  /// - Parameter now: in nanoseconds; must not go back.
  /// - Returns: whether the event may happen.
  mutating func take(now: UInt64) -> Bool {
    level = min(rate, level + Double(now - min(last, now)) * rate / 1e9)
    last = now
    guard level >= 1 else { return false }
    level -= 1
    return true
  }
}
