import NIOCore

/// How many bytes measuring may cost: a bucket that fills evenly and holds a quarter of a minute's worth. No clock.
struct ProbeBudget {
  private let idle: Double
  private let busy: Double
  private var left: Double
  private var filled: Double?

  /// - Parameters:
  ///   - idle: bytes per minute while no session runs.
  ///   - busy: bytes per minute while one does.
  init(idle: Int, busy: Int) {
    self.idle = Double(idle)
    self.busy = Double(busy)
    left = Double(busy) / 4
  }

  /// Pays for a query.
  ///
  /// - Parameter now: in seconds.
  /// - Returns: false where there is not enough left.
  mutating func pay(_ bytes: Int, isBusy: Bool, now: Double) -> Bool {
    let perMinute = isBusy ? busy : idle
    let passed = max(0, now - (filled ?? now))
    filled = now
    left = min(left + passed * perMinute / 60, perMinute / 4)
    guard left >= Double(bytes) else { return false }
    left -= Double(bytes)
    return true
  }
}

/// One budget for all members of a group; on its home loop.
final class SharedProbeBudget {
  private var budget: ProbeBudget

  init(_ budget: ProbeBudget) {
    self.budget = budget
  }

  /// Pays for a query; false where there is not enough left.
  func pay(_ bytes: Int, isBusy: Bool) -> Bool {
    budget.pay(bytes, isBusy: isBusy, now: Double(NIODeadline.now().uptimeNanoseconds) / 1e9)
  }
}

/// How often a member is asked.
///
/// A leg without traffic has to show some fifty packets within a window of ten seconds while sessions run, and in
/// half of it while nothing is known, for sessions may be on the wrong member. One with traffic shows them anyway,
/// and is asked for the counts alone, as all are where all have been calm for a while. While nothing runs, the idle
/// budget is spread out.
struct QueryPace {
  /// Packets per second above which a leg shows enough by itself.
  private static let enough = 20.0
  private let idle: TimeAmount

  /// - Parameters:
  ///   - idleBudget: bytes per minute, for all members together.
  ///   - cost: bytes of one query and its report.
  init(idleBudget: Int, members: Int, cost: Int) {
    let perMinute = Double(idleBudget) / Double(max(1, members * cost))
    idle = perMinute < 0.1 ? .minutes(10) : .milliseconds(Int64(60_000 / perMinute))
  }

  func interval(isBusy: Bool, isKnown: Bool, isCalm: Bool, packetsPerSecond: Double) -> TimeAmount {
    guard isBusy else { return idle }
    if isCalm || packetsPerSecond > Self.enough { return .seconds(1) }
    return isKnown ? .milliseconds(200) : .milliseconds(100)
  }
}
