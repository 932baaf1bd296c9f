import MagicalaneCore

/// What the policy knows of one member, from the samples that it took.
///
///     unknown ──lasting loss ≥ enter_loss──────────────────► high
///        │                                                   │ ▲
///        └──surely < enter_loss──► low ──lasting loss ≥ …────┼─┘
///                                   ▲                        │
///                                   └─≤ leave_loss for hold──┘
///
/// Each goes back to `unknown` where fewer than `min_packets` are left within `reach`. Beside that a member is down
/// from a failure with nothing heard until something is heard, whatever it loses.
struct LegEstimate: Sendable {
  /// What its losses say, whether or not it can be reached.
  enum Condition: Sendable, Equatable {
    case unknown
    case low
    /// Since when the loss is at or below `leave_loss`; nil where it is above.
    case high(calmSince: Milliseconds?)
  }

  enum Direction: Sendable {
    case up, down
  }

  let member: AdaptiveMember
  private(set) var lossCondition = Condition.unknown
  /// What the losses said before they were forgotten; nil where they never said anything.
  private(set) var wasHigh: Bool?
  private(set) var up: LossWindow.Estimate?
  private(set) var down: LossWindow.Estimate?
  private(set) var roundTrip: Double?
  private(set) var variation: Double?
  private(set) var openTime = SmoothedTime()
  /// Attempts that failed since something was heard.
  private(set) var failuresInRow = 0
  private(set) var lastFailure: String?
  private(set) var opened: UInt64 = 0
  private(set) var failed: UInt64 = 0

  private var upWindow = LossWindow()
  private var downWindow = LossWindow()
  private var refusals = Refusals()
  private var isSilent = false

  init(_ member: AdaptiveMember) {
    self.member = member
  }

  var isDown: Bool { isSilent || refusals.areTooMany }

  var condition: PathStatus.Condition {
    if isDown { return .down }
    return switch lossCondition {
    case .unknown: .unknown
    case .low: .low
    case .high: .high
    }
  }

  /// The direction that loses more, of those that hold `min_packets`.
  func worst(_ settings: PolicySettings) -> (direction: Direction, loss: LossWindow.Estimate)? {
    let up = known(up, settings).map { (direction: Direction.up, loss: $0) }
    let down = known(down, settings).map { (direction: Direction.down, loss: $0) }
    guard let up, let down else { return up ?? down }
    return up.loss.ratio >= down.loss.ratio ? up : down
  }

  /// The direction of which most is known, where none holds `min_packets`.
  var best: (direction: Direction, loss: LossWindow.Estimate)? {
    guard let up, let down else { return up.map { (.up, $0) } ?? down.map { (.down, $0) } }
    return up.sent >= down.sent ? (.up, up) : (.down, down)
  }

  private func known(_ loss: LossWindow.Estimate?, _ settings: PolicySettings) -> LossWindow.Estimate? {
    loss.flatMap { $0.sent >= settings.minPackets ? $0 : nil }
  }
}

// MARK: Taking samples

extension LegEstimate {
  mutating func take(_ sample: LegSample, at now: Milliseconds, _ settings: PolicySettings) {
    takeTimes(sample)
    takeFailures(sample, at: now, settings)
    upWindow.take(sample.up, at: now, reach: settings.reach)
    downWindow.take(sample.down, at: now, reach: settings.reach)
    up = upWindow.estimate(at: now, window: settings.window, minPackets: settings.minPackets)
    down = downWindow.estimate(at: now, window: settings.window, minPackets: settings.minPackets)
    lossCondition = nextCondition(at: now, settings)
    switch lossCondition {
    case .unknown: break
    case .low: wasHigh = false
    case .high: wasHigh = true
    }
  }

  private mutating func takeTimes(_ sample: LegSample) {
    roundTrip = sample.roundTrip ?? roundTrip
    variation = sample.variation ?? variation
    sample.opens.forEach { openTime.take($0) }
    opened.addSaturating(UInt64(sample.opens.count))
  }

  private mutating func takeFailures(_ sample: LegSample, at now: Milliseconds, _ settings: PolicySettings) {
    failed.addSaturating(UInt64(sample.failures.count))
    lastFailure = sample.failures.last ?? lastFailure
    refusals.take(sample, at: now, forgottenAfter: settings.hold)
    if sample.isHeard {
      isSilent = false
      failuresInRow = refusals.count
    } else if !sample.failures.isEmpty {
      isSilent = true
      failuresInRow += sample.failures.count
    }
  }

  private func nextCondition(at now: Milliseconds, _ settings: PolicySettings) -> Condition {
    guard let worst = worst(settings)?.loss else { return .unknown }
    let losses = [up, down].compactMap { known($0, settings) }
    if losses.contains(where: { $0.ratio >= settings.enterLoss && $0.isLastingLoss }) {
      return .high(calmSince: nil)
    }
    switch lossCondition {
    case .low:
      return .low
    case .unknown:
      return isSurelyLow(settings) ? .low : .unknown
    case .high(let calmSince):
      guard worst.ratio <= settings.leaveLoss else { return .high(calmSince: nil) }
      let since = calmSince ?? now
      return now - since >= settings.hold ? .low : .high(calmSince: since)
    }
  }

  /// Few packets of a path at the threshold show less than it loses often enough: such a path is not called low.
  private func isSurelyLow(_ settings: PolicySettings) -> Bool {
    [up, down].compactMap { known($0, settings) }.allSatisfy { $0.upperBound < settings.enterLoss }
  }
}

/// Attempts that failed although the member's server was heard, with no success between them: it answers on the
/// streams that it has, and takes no new ones.
private struct Refusals: Sendable {
  private(set) var count = 0
  private var latest: Milliseconds = 0
  private static let limit = 3

  /// True until a stream is opened, or nothing was refused for so long that it is worth another try.
  var areTooMany: Bool { count >= Self.limit }

  mutating func take(_ sample: LegSample, at now: Milliseconds, forgottenAfter hold: Milliseconds) {
    if !sample.opens.isEmpty || (count > 0 && now - latest >= hold) { count = 0 }
    guard sample.isHeard, sample.opens.isEmpty, !sample.failures.isEmpty else { return }
    count += sample.failures.count
    latest = now
  }
}

/// A mean of times that gives each new one a quarter of the weight; in seconds.
struct SmoothedTime: Sendable, Equatable {
  /// Nil before the first.
  private(set) var value: Double?

  mutating func take(_ seconds: Double) {
    value = value.map { $0 + (seconds - $0) / 4 } ?? seconds
  }
}
