import Foundation
import MagicalaneCore

/// Says which of two members new sessions take: a function of the samples, the settings and nothing else.
///
/// The same samples give the same decisions, byte for byte: it reads no clock, and time is that of the samples.
/// What the conditions of the members mean together is said at `Diagnosis`, how a member comes by its condition at
/// `LegEstimate`, and what holds a switch back at `SwitchLimits`.
///
/// A decision is made at the first sample, whenever the choice or the diagnosis changes, and when something begins
/// to hold a wanted switch back.
public struct AdaptivePolicy: Sendable {
  /// In the order of `members:`.
  public let members: [AdaptiveMember]
  /// As given.
  public let settings: AdaptiveSettings

  private let limits: PolicySettings
  private let cheapIndex: Int
  private var legs: [LegEstimate]
  private var chosenSide: Side?
  private var clock = SampleClock()
  private var switches = SwitchLimits()
  private var lastID: UInt64 = 0
  /// As the last decision had them.
  private var announced: (diagnosis: Diagnosis, barrier: SwitchLimits.Barrier?)?
  /// Since when the cheap member is unknown, beside a robust one that is known and chosen.
  private var untriedSince: Milliseconds?

  /// - Parameter members: two, one that bears loss and one that does not, the preferred one first.
  /// - Throws: at `members` where they are not.
  public init(settings: AdaptiveSettings, members: [AdaptiveMember]) throws(PluginError) {
    guard members.count == 2 else {
      throw PluginError("needs exactly two members, not \(members.count)", at: ["members"])
    }
    guard members[0].bearsLoss != members[1].bearsLoss else {
      let names = "'\(members[0].name)' (\(members[0].type)) and '\(members[1].name)' (\(members[1].type))"
      throw PluginError(
        "needs one member that bears loss, such as quic, and one that does not, such as tls; "
          + "\(names) \(members[0].bearsLoss ? "both do" : "both do not")",
        at: ["members"]
      )
    }
    self.settings = settings
    self.members = members
    limits = PolicySettings(settings)
    cheapIndex = members[0].bearsLoss ? 1 : 0
    legs = members.map(LegEstimate.init)
  }

  /// The member that new sessions take, by its place in `members`; nil before the first sample.
  public var chosen: Int? { chosenSide.map(index) }

  /// In the order of `members`.
  public var conditions: [PathStatus.Condition] { legs.map(\.condition) }

  /// What is known of each member, in the order of `members`; what no sample tells is left as it begins.
  ///
  /// - Parameter time: now, in seconds since 1970; the ages of the estimates are told from it.
  public func statuses(at time: Double) -> [PathStatus] {
    let now = clock.reading(at: time)
    return legs.indices.map { place in
      var status = PathStatus(member: members[place].name, type: members[place].type)
      let leg = legs[place]
      status.isChosen = place == chosen
      status.condition = leg.condition
      status.up = leg.up.map { PathStatus.Loss($0, at: now) }
      status.down = leg.down.map { PathStatus.Loss($0, at: now) }
      status.roundTrip = leg.roundTrip
      status.variation = leg.variation
      status.openTime = leg.openTime.value
      status.opened = leg.opened
      status.failed = leg.failed
      status.lastFailure = leg.lastFailure
      return status
    }
  }

  private func index(_ side: Side) -> Int { side == .cheap ? cheapIndex : 1 - cheapIndex }
  private func leg(_ side: Side) -> LegEstimate { legs[index(side)] }
  private var first: Side { cheapIndex == 0 ? .cheap : .robust }
}

extension AdaptivePolicy {
  /// Takes the next sample.
  ///
  /// - Parameter sample: with a leg for each member, in their order; any other is left out. Time that runs
  ///   backwards counts as standing still.
  /// - Returns: nil where nothing is decided anew.
  public mutating func take(_ sample: PathSample) -> Decision? {
    guard sample.legs.count == legs.count else { return nil }
    let now = clock.advance(to: sample.time)
    switches.advance(to: now)
    for place in legs.indices { legs[place].take(sample.legs[place], at: now, limits) }

    let diagnosis = diagnose(at: now)
    let before = chosenSide
    let wanted = diagnosis.wanted ?? before ?? first
    let barrier = barrier(to: wanted, at: now)
    if barrier == nil { choose(wanted, at: now) }

    let isBarrierNew = barrier.map { !$0.isSameKind(as: announced?.barrier) } ?? false
    let isNews = before != chosenSide || announced?.diagnosis != diagnosis || isBarrierNew
    announced = (diagnosis, barrier)
    guard isNews else { return nil }
    return decision(diagnosis, wanted, barrier, before: before, at: sample.time)
  }

  private mutating func diagnose(at now: Milliseconds) -> Diagnosis {
    let (cheap, robust) = (leg(.cheap), leg(.robust))
    let isUntried =
      chosenSide == .robust && cheap.condition == .unknown && cheap.wasHigh != true
      && [.low, .high].contains(robust.condition)
    untriedSince = isUntried ? untriedSince ?? now : nil
    let isTrialDue = untriedSince.map { now - $0 >= limits.reach } ?? false
    return Diagnosis(cheap: cheap, robust: robust, isTrialDue: isTrialDue)
  }

  /// Nil where `side` may be chosen.
  private func barrier(to side: Side, at now: Milliseconds) -> SwitchLimits.Barrier? {
    guard let chosenSide, side != chosenSide, !leg(chosenSide).isDown else { return nil }
    return switches.barrier(at: now, limits)
  }

  private mutating func choose(_ side: Side, at now: Milliseconds) {
    guard side != chosenSide else { return }
    if let chosenSide { switches.record(at: now, isFailure: leg(chosenSide).isDown) }
    chosenSide = side
  }

  private mutating func decision(
    _ diagnosis: Diagnosis,
    _ wanted: Side,
    _ barrier: SwitchLimits.Barrier?,
    before: Side?,
    at time: Double
  ) -> Decision {
    let chosen = chosenSide ?? wanted
    let wording = DecisionWording(
      settings: settings,
      limits: limits,
      cheap: leg(.cheap),
      robust: leg(.robust),
      now: clock.now,
      time: time
    )
    let sentences =
      barrier.map { wording.heldBack($0, diagnosis, wanted: wanted, switches: switches.countedInHour) }
      ?? wording.sentences(diagnosis, chosen: chosen, isFirst: before == nil)
    lastID += 1
    return Decision(
      id: lastID,
      time: Date(timeIntervalSince1970: time),
      chosen: leg(chosen).member.name,
      previous: before.map { leg($0).member.name },
      diagnosis: diagnosis.text,
      reason: sentences.reason,
      alternative: leg(chosen.other).member.name,
      whyNot: sentences.whyNot,
      inputs: legs.map { Decision.Input($0, at: clock.now) },
      thresholds: limits.thresholds,
      switchesInHour: switches.countInHour
    )
  }
}

/// The time of the samples, made to run forwards only.
private struct SampleClock: Sendable {
  /// Since the first sample.
  private(set) var now: Milliseconds = 0
  private var latest: Milliseconds?

  mutating func advance(to time: Double) -> Milliseconds {
    now = reading(at: time)
    latest = Self.milliseconds(time)
    return now
  }

  /// What `now` would be at that time.
  func reading(at time: Double) -> Milliseconds {
    now + max(Self.milliseconds(time) - (latest ?? Self.milliseconds(time)), 0)
  }

  /// Bounded, so that no time that a trace can hold overflows.
  private static func milliseconds(_ seconds: Double) -> Milliseconds {
    guard seconds.isFinite else { return 0 }
    return Milliseconds(max(-1e15, min((seconds * 1000).rounded(), 1e15)))
  }
}

extension PathStatus.Loss {
  init(_ estimate: LossWindow.Estimate, at now: Milliseconds) {
    self.init(ratio: estimate.ratio, packets: estimate.sent, age: Double(now - estimate.latest) / 1000)
  }
}

extension Decision.Input {
  init(_ leg: LegEstimate, at now: Milliseconds) {
    self.init(member: leg.member.name, condition: leg.condition, failures: leg.failuresInRow)
    up = leg.up.map { PathStatus.Loss($0, at: now) }
    down = leg.down.map { PathStatus.Loss($0, at: now) }
    roundTrip = leg.roundTrip
    openTime = leg.openTime.value
  }
}
