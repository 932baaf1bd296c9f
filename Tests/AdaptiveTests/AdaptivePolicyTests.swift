import Foundation
import MagicalaneCore
import Testing

@testable import MagicalaneAdaptive

/// Plays samples to a policy, a second apart.
struct PolicyPlayer {
  static let loses = LegSample(up: .init(sent: 100, lost: 20), isHeard: true)
  static let clean = LegSample(up: .init(sent: 100, lost: 0), isHeard: true)
  static let unknown = LegSample(isHeard: true)
  static let failed = LegSample(failures: ["stalled"])
  static let nothing = LegSample()

  var policy: AdaptivePolicy
  var time = 1_800_000_000.0

  /// QUIC is the first member.
  init(_ settings: AdaptiveSettings = AdaptiveSettings(), members: [AdaptiveMember] = SimulatedPath.members)
    throws
  {
    policy = try AdaptivePolicy(settings: settings, members: members)
  }

  var chosen: String? { policy.chosen.map { policy.members[$0].name } }

  @discardableResult
  mutating func play(quic: LegSample, tls: LegSample, seconds: Int = 1) -> [Decision] {
    (0..<seconds).compactMap { _ in
      time += 1
      return policy.take(PathSample(time: time, legs: [quic, tls]))
    }
  }
}

@Suite struct AdaptivePolicyTests {
  private typealias Player = PolicyPlayer

  @Test func `members are one of each kind`() {
    let quic = SimulatedPath.members[0]
    for members in [[quic], [quic, quic], SimulatedPath.members + [quic]] {
      let error = #expect(throws: PluginError.self) {
        try AdaptivePolicy(settings: AdaptiveSettings(), members: members)
      }
      #expect(error?.path == ["members"])
    }
  }

  @Test func `the first choice is the first member, and comes with the first sample`() throws {
    var player = try Player()
    #expect(player.policy.chosen == nil)
    let decisions = player.play(quic: Player.nothing, tls: Player.nothing, seconds: 5)
    #expect(decisions.count == 1)
    #expect(decisions.first?.chosen == "tokyo-quic")
    #expect(decisions.first?.previous == nil)
    #expect(
      decisions.first?.reason
        == "nothing is known of what tokyo-quic loses, and it is the first of members"
    )
  }

  @Test(arguments: [
    (Player.loses, Player.loses, "tokyo-quic", "lossy path"),
    (Player.loses, Player.clean, "tokyo-tls", "UDP policed or blocked"),
    (Player.clean, Player.clean, "tokyo-tls", "clean"),
    (Player.clean, Player.loses, "tokyo-quic", "TCP shaped"),
    (Player.failed, Player.clean, "tokyo-tls", "down"),
    (Player.failed, Player.loses, "tokyo-tls", "down"),
    (Player.loses, Player.failed, "tokyo-quic", "down"),
    (Player.failed, Player.failed, "tokyo-quic", "down"),
    (Player.unknown, Player.loses, "tokyo-quic", "unknown"),
    (Player.unknown, Player.clean, "tokyo-tls", "clean"),
    (Player.loses, Player.unknown, "tokyo-quic", "unknown"),
    (Player.clean, Player.unknown, "tokyo-quic", "unknown"),
  ])
  func `the table says which member is taken`(
    quic: LegSample,
    tls: LegSample,
    chosen: String,
    diagnosis: String
  ) throws {
    var player = try Player()
    let decisions = player.play(quic: quic, tls: tls, seconds: 3)
    #expect(decisions.last?.chosen == chosen)
    #expect(decisions.last?.diagnosis == diagnosis)
  }

  @Test func `a decision holds the figures and the thresholds`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.clean)
    let lossy = LegSample(
      up: .init(sent: 104, lost: 16),
      down: .init(sent: 100, lost: 1),
      roundTrip: 0.04,
      opens: [0.08],
      isHeard: true
    )
    let decision = try #require(player.play(quic: Player.clean, tls: lossy, seconds: 3).first)
    #expect(decision.id == 2)
    #expect(decision.chosen == "tokyo-quic")
    #expect(decision.previous == "tokyo-tls")
    #expect(decision.reason == "tokyo-quic lost 0.0 % of 400 packets upward, below enter_loss 5 %")
    #expect(decision.whyNot == "tokyo-tls lost 11.7 % of 412 packets upward, at or above enter_loss 5 %")
    #expect(decision.switchesInHour == 1)
    #expect(decision.thresholds["enter_loss"] == 0.05)
    #expect(decision.thresholds["hold"] == 60)
    #expect(decision.inputs[1].up == PathStatus.Loss(ratio: 48.0 / 412, packets: 412, age: 0))
    #expect(decision.inputs[1].openTime == 0.08)
    #expect(decision.time == Date(timeIntervalSince1970: player.time))
  }

  @Test func `a member that lost much counts as low again when hold is over`() throws {
    var player = try Player()
    player.play(quic: Player.loses, tls: Player.loses, seconds: 3)
    // After 9 s the 20 lost packets are 2 % of those in the window.
    player.play(quic: Player.clean, tls: Player.clean, seconds: 9 + 59)
    #expect(player.policy.conditions == [.high, .high])
    player.play(quic: Player.clean, tls: Player.clean)
    #expect(player.policy.conditions == [.low, .low])
    #expect(player.chosen == "tokyo-tls")
  }

  @Test func `what a queue drops when a transfer begins does not make a path lossy`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.clean, seconds: 3)
    let beginning = LegSample(down: .init(sent: 7000, lost: 800), isHeard: true)
    let decisions =
      player.play(quic: Player.clean, tls: beginning, seconds: 2)
      + player.play(quic: Player.clean, tls: Player.clean, seconds: 20)
    #expect(decisions.isEmpty)
    #expect(player.policy.conditions == [.low, .low])
  }

  @Test func `loss above leave_loss begins hold anew`() throws {
    var player = try Player()
    let some = LegSample(up: .init(sent: 100, lost: 4), isHeard: true)
    player.play(quic: Player.loses, tls: Player.loses, seconds: 3)
    player.play(quic: some, tls: some, seconds: 300)
    #expect(player.policy.conditions == [.high, .high])
  }

  @Test func `a second switch waits for the dwell, which is said once`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.clean)
    player.play(quic: Player.nothing, tls: Player.nothing, seconds: 200)
    player.play(quic: Player.clean, tls: Player.loses, seconds: 3)
    #expect(player.chosen == "tokyo-quic")
    let held =
      player.play(quic: Player.failed, tls: Player.loses)
      + player.play(quic: Player.unknown, tls: Player.loses)
    #expect(player.chosen == "tokyo-tls")
    #expect(held.last?.diagnosis == "TCP shaped")
    #expect(
      held.last?.reason.hasPrefix("tokyo-tls stays: the last switch was 1 s ago, and dwell is 30s, until ")
        == true
    )
    #expect(player.play(quic: Player.clean, tls: Player.loses, seconds: 28).isEmpty)
    let freed = player.play(quic: Player.clean, tls: Player.loses)
    #expect(freed.map(\.chosen) == ["tokyo-quic"])
  }

  @Test func `a failure switches within the dwell`() throws {
    var player = try Player()
    player.play(quic: Player.unknown, tls: Player.unknown)
    player.play(quic: Player.unknown, tls: Player.clean)
    #expect(player.chosen == "tokyo-tls")
    let decision = player.play(quic: Player.unknown, tls: Player.failed).first
    #expect(decision?.chosen == "tokyo-quic")
    #expect(decision?.whyNot == "tokyo-tls failed once (stalled)")
  }

  @Test func `with both members down the one that comes back is taken at once`() throws {
    var player = try Player()
    player.play(quic: Player.failed, tls: Player.failed)
    player.play(quic: Player.failed, tls: Player.failed, seconds: 20)
    #expect(player.play(quic: Player.failed, tls: Player.unknown).map(\.chosen) == ["tokyo-tls"])
  }

  @Test func `failures with a member that is heard count when no stream opens`() throws {
    var player = try Player()
    let refusing = LegSample(up: .init(sent: 100, lost: 0), failures: ["refused"], isHeard: true)
    player.play(quic: Player.unknown, tls: Player.clean)
    player.play(quic: Player.unknown, tls: refusing, seconds: 2)
    #expect(player.policy.conditions[1] == .low)
    player.play(quic: Player.unknown, tls: refusing)
    #expect(player.policy.conditions[1] == .down)
    #expect(player.chosen == "tokyo-quic")
    player.play(quic: Player.unknown, tls: LegSample(opens: [0.1], isHeard: true))
    #expect(player.policy.conditions[1] == .low)
  }

  @Test func `a cheap member that stays unknown is tried by use`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.unknown, seconds: 121)
    #expect(player.chosen == "tokyo-quic")
    player.play(quic: Player.clean, tls: Player.unknown)
    #expect(player.chosen == "tokyo-tls")
  }

  @Test func `a cheap member that was lossy when last known is not tried by use`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.loses, seconds: 3)
    player.play(quic: Player.clean, tls: Player.unknown, seconds: 1000)
    #expect(player.chosen == "tokyo-quic")
    #expect(player.policy.conditions[1] == .unknown)
  }

  @Test func `what was seen is forgotten beyond reach`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.clean)
    player.play(quic: Player.nothing, tls: Player.nothing, seconds: 119)
    #expect(player.policy.conditions == [.low, .low])
    player.play(quic: Player.nothing, tls: Player.nothing)
    #expect(player.policy.conditions == [.unknown, .unknown])
    #expect(player.chosen == "tokyo-tls")
  }

  @Test func `few packets at the threshold are not called low`() throws {
    var player = try Player()
    let few = LegSample(up: .init(sent: 50, lost: 2), isHeard: true)
    player.play(quic: few, tls: few)
    #expect(player.policy.conditions == [.unknown, .unknown])
  }

  @Test func `the live view tells the choice and the ages`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.loses, seconds: 3)
    let statuses = player.policy.statuses(at: player.time + 2.5)
    #expect(statuses.map(\.isChosen) == [true, false])
    #expect(statuses.map(\.condition) == [.low, .high])
    #expect(statuses[1].up == PathStatus.Loss(ratio: 0.2, packets: 300, age: 2.5))
  }

  @Test(arguments: [-1e300, 0, 1e300, .infinity, .nan])
  func `no time and no count makes it crash`(time: Double) throws {
    var player = try Player()
    let huge = LegSample(up: .init(sent: .max, lost: .max), down: .init(sent: 0, lost: .max), isHeard: true)
    for time in [time, 1_800_000_000, time, -time] {
      player.time = time
      player.play(quic: huge, tls: huge)
    }
    #expect(player.chosen == "tokyo-quic")
    _ = player.policy.statuses(at: time)
  }

  @Test func `a clock that is set back holds nothing up`() throws {
    var player = try Player()
    player.play(quic: Player.clean, tls: Player.clean)
    player.time -= 86400
    player.play(quic: Player.clean, tls: Player.loses, seconds: 31)
    #expect(player.chosen == "tokyo-quic")
  }
}
