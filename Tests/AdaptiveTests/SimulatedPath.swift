import MagicalaneAdaptive
import MagicalaneCore

/// The same numbers for the same seed, on every machine (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}

/// A path that loses each packet by itself, measured once a second: the chosen member carries sessions, the other
/// one is probed.
struct SimulatedPath {
  /// Loss of UDP and TCP, from 0 to 1; at 1 nothing comes through.
  typealias Loss = (udp: Double, tcp: Double)

  static let start = 1_800_000_000.0
  static let members = [
    AdaptiveMember(name: "tokyo-quic", type: "quic", bearsLoss: true),
    AdaptiveMember(name: "tokyo-tls", type: "tls", bearsLoss: false),
  ]

  var settings = AdaptiveSettings()
  var members = Self.members
  /// Packets a second each way of the member that carries sessions, and of the one that is probed.
  var rates = (busy: 40, probed: 8)
  /// Seconds of silence until the prober calls it a stall.
  var stall = 3

  struct Result {
    var samples: [PathSample] = []
    var decisions: [Decision] = []
    /// The chosen member after each second.
    var chosen: [String] = []

    /// Changes of the chosen member.
    var switches: Int { zip(chosen, chosen.dropFirst()).count { $0 != $1 } }

    /// From this second on, for how long another member than this was chosen; nil where it never was this one
    /// for good.
    func seconds(to member: String, from second: Int, until end: Int? = nil) -> Int? {
      let part = chosen[second..<(end ?? chosen.count)]
      guard part.last == member else { return nil }
      return part.lastIndex { $0 != member }.map { $0 + 1 - second } ?? 0
    }
  }

  func run(seconds: Int, seed: UInt64, loss: (_ second: Int) -> Loss) throws -> Result {
    var policy = try AdaptivePolicy(settings: settings, members: members)
    var generator = SeededGenerator(seed: seed)
    var silence = [0, 0]
    var result = Result()
    for second in 0..<seconds {
      let loss = loss(second)
      let legs = members.indices.map { place in
        let rate = policy.chosen == place ? rates.busy : rates.probed
        let ratio = members[place].bearsLoss ? loss.udp : loss.tcp
        return leg(rate: rate, loss: ratio, silence: &silence[place], &generator)
      }
      let sample = PathSample(time: Self.start + Double(second), legs: legs)
      result.samples.append(sample)
      if let decision = policy.take(sample) { result.decisions.append(decision) }
      result.chosen.append(policy.chosen.map { members[$0].name } ?? "none")
    }
    return result
  }

  private func leg(
    rate: Int,
    loss: Double,
    silence: inout Int,
    _ generator: inout SeededGenerator
  ) -> LegSample {
    guard loss < 1 else {
      silence += 1
      // After the stall it is tried again ever more seldom.
      let fails = silence == stall || (silence > stall && (silence - stall) % 8 == 0)
      return LegSample(failures: fails ? ["stalled"] : [])
    }
    silence = 0
    let lost = (0..<2).map { _ in
      (0..<rate).count { _ in Double.random(in: 0..<1, using: &generator) < loss }
    }
    return LegSample(
      up: .init(sent: UInt64(rate), lost: UInt64(lost[0])),
      down: .init(sent: UInt64(rate), lost: UInt64(lost[1])),
      roundTrip: 0.04,
      variation: 0.002,
      isHeard: true
    )
  }
}
