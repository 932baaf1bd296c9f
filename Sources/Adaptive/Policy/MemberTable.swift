import Foundation
import MagicalaneCore

/// What is known of each member where losses do not matter: whether it works, and how fast it opens.
struct MemberTable: Sendable {
  struct Member: Sendable {
    let index: Int
    let name: String
    let type: String
    var isHeard = false
    var isDown = false
    var failures = 0
    var lastFailure: String?
    /// Smoothed, in seconds.
    var openTime: Double?
    var roundTrip: Double?
    var variation: Double?

    var condition: PathStatus.Condition { isDown ? .down : isHeard ? .low : .unknown }
  }

  /// The weight of a new opening time.
  fileprivate static let weight = 0.3

  private var members: [Member]

  init(_ members: [AdaptiveMember]) {
    self.members = members.enumerated().map { Member(index: $0, name: $1.name, type: $1.type) }
  }

  var indices: Range<Int> { members.indices }

  subscript(index: Int) -> Member { members[index] }

  /// In the words of the decision log.
  var diagnosis: String {
    if members.allSatisfy(\.isDown) { return "all down" }
    if members.contains(where: \.isDown) { return "down" }
    return members.allSatisfy(\.isHeard) ? "clean" : "unknown"
  }

  mutating func take(_ sample: PathSample) {
    for (index, leg) in zip(members.indices, sample.legs) { members[index].take(leg) }
  }

  func statuses(chosen: Int?) -> [PathStatus] {
    members.map { member in
      var status = PathStatus(member: member.name, type: member.type)
      status.isChosen = member.index == chosen
      status.condition = member.condition
      status.roundTrip = member.roundTrip
      status.variation = member.variation
      status.openTime = member.openTime
      return status
    }
  }
}

extension MemberTable.Member {
  fileprivate mutating func take(_ sample: LegSample) {
    for time in sample.opens {
      openTime = openTime.map { $0 + (time - $0) * MemberTable.weight } ?? time
    }
    roundTrip = sample.roundTrip ?? roundTrip
    variation = sample.variation ?? variation
    if sample.isHeard {
      (isHeard, isDown, failures) = (true, false, 0)
    } else if let failure = sample.failures.last {
      failures += sample.failures.count
      (isDown, lastFailure) = (true, failure)
    }
  }
}

/// Numbers the decisions of a choice and remembers the last.
struct DecisionJournal: Sendable {
  private(set) var chosen: Int?
  private var lastID: UInt64 = 0
  private var switches: [Double] = []

  mutating func decide(
    _ index: Int,
    at time: Double,
    members: MemberTable,
    diagnosis: String,
    reason: String,
    alternative: String?,
    whyNot: String?
  ) -> Decision {
    lastID += 1
    let previous = chosen.map { members[$0].name }
    if previous != nil { switches.append(time) }
    switches.removeAll { $0 < time - 3600 }
    chosen = index
    return Decision(
      id: lastID,
      time: Date(timeIntervalSince1970: time),
      chosen: members[index].name,
      previous: previous,
      diagnosis: diagnosis,
      reason: reason,
      alternative: alternative,
      whyNot: whyNot,
      inputs: members.indices.map { members[$0].input },
      thresholds: [:],
      switchesInHour: switches.count
    )
  }
}

extension MemberTable.Member {
  fileprivate var input: Decision.Input {
    var input = Decision.Input(member: name, condition: condition, failures: failures)
    input.roundTrip = roundTrip
    input.openTime = openTime
    return input
  }
}
