import MagicalaneCore

/// The member that opens streams in the shortest time, smoothed.
///
/// One whose time is not known yet comes behind those that are known, one that failed last. So that two that are
/// alike do not take turns, the chosen one is left only for one that is faster by `margin`.
struct FastestChoice: Choice {
  /// How much faster another one has to be, as a part of the chosen one's time.
  private static let margin = 0.2

  private var members: MemberTable
  private var journal = DecisionJournal()

  /// - Parameter members: at least two, in the order of the config.
  init(members: [AdaptiveMember]) {
    self.members = MemberTable(members)
  }

  var order: [Int] {
    let byTime = members.indices.sorted { members[$0].rank < members[$1].rank }
    guard let chosen = journal.chosen else { return byTime }
    return [chosen] + byTime.filter { $0 != chosen }
  }

  mutating func take(_ sample: PathSample) -> Decision? {
    members.take(sample)
    guard let best = members.indices.min(by: { members[$0].rank < members[$1].rank }),
      shouldTake(members[best], insteadOf: journal.chosen.map { members[$0] })
    else { return nil }
    let second = members.indices.filter { $0 != best }.min { members[$0].rank < members[$1].rank }
    return journal.decide(
      best,
      at: sample.time,
      members: members,
      diagnosis: members.diagnosis,
      reason: "'\(members[best].name)' \(members[best].opening)",
      alternative: second.map { members[$0].name },
      whyNot: second.map { "it \(members[$0].opening)" }
    )
  }

  private func shouldTake(_ best: MemberTable.Member, insteadOf chosen: MemberTable.Member?) -> Bool {
    guard let chosen else { return best.openTime != nil }
    if best.name == chosen.name { return false }
    if chosen.isDown { return true }
    guard !best.isDown, let time = best.openTime, let current = chosen.openTime else { return false }
    return time < current * (1 - Self.margin)
  }

  func statuses(at time: Double) -> [PathStatus] {
    members.statuses(chosen: order.first)
  }
}

extension MemberTable.Member {
  /// Known, unknown, down; within each the faster first, then the order of the config.
  fileprivate var rank: (Int, Double, Int) { (isDown ? 2 : openTime == nil ? 1 : 0, openTime ?? 0, index) }

  fileprivate var opening: String {
    if isDown { return "failed: \(lastFailure ?? "it does not answer")" }
    guard let openTime else { return "has not opened a stream yet" }
    return "opens a stream in \(milliseconds(openTime))"
  }
}

private func milliseconds(_ seconds: Double) -> String {
  let tenths = Int((seconds * 10_000).rounded())
  return "\(tenths / 10).\(tenths % 10) ms"
}
