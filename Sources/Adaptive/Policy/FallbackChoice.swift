import MagicalaneCore

/// The first member that works, in the order of the config.
///
/// A member works until it fails, and again once something is heard of it.
struct FallbackChoice: Choice {
  private var members: MemberTable
  private var journal = DecisionJournal()

  /// - Parameter members: at least two, in the order of the config.
  init(members: [AdaptiveMember]) {
    self.members = MemberTable(members)
  }

  var order: [Int] {
    members.indices.filter { !members[$0].isDown } + members.indices.filter { members[$0].isDown }
  }

  mutating func take(_ sample: PathSample) -> Decision? {
    members.take(sample)
    let order = order
    guard let first = order.first, first != journal.chosen else { return nil }
    let chosen = members[first]
    let passedOver = members.indices.first { $0 < first }.map { members[$0] }
    return journal.decide(
      first,
      at: sample.time,
      members: members,
      diagnosis: members.diagnosis,
      reason: chosen.isDown
        ? "no member works; '\(chosen.name)' is the first of the list"
        : "'\(chosen.name)' is the first of the list that works",
      alternative: passedOver?.name ?? order.dropFirst().first.map { members[$0].name },
      whyNot: passedOver.map { "'\($0.name)' does not work: \($0.lastFailure ?? "it failed")" }
        ?? "it comes later in the list"
    )
  }

  func statuses(at time: Double) -> [PathStatus] {
    members.statuses(chosen: order.first)
  }
}
