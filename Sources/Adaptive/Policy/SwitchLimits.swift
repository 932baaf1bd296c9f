/// How often the choice may change: not within `dwell` of the last switch, and not more than `switches_per_hour`
/// times in any hour. A switch away from a member that failed is free of both; it starts a dwell, but is not one of
/// those that are counted, lest a member that comes and goes uses them up.
struct SwitchLimits: Sendable {
  /// What holds a switch back.
  enum Barrier: Sendable, Equatable {
    /// With the time since the last switch.
    case dwell(until: Milliseconds, since: Milliseconds)
    /// Nil where no switch is allowed at all.
    case hour(until: Milliseconds?)

    func isSameKind(as other: Barrier?) -> Bool {
      switch (self, other) {
      case (.dwell, .dwell), (.hour, .hour): true
      default: false
      }
    }
  }

  private struct Switch: Sendable {
    var time: Milliseconds
    var isCounted: Bool
  }

  /// Those of the last hour.
  private var switches: [Switch] = []
  private var latest: Milliseconds?
  private static let hour: Milliseconds = 3_600_000

  /// Failures included.
  var countInHour: Int { switches.count }
  /// Failures left out.
  var countedInHour: Int { switches.count { $0.isCounted } }

  mutating func advance(to now: Milliseconds) {
    switches.removeAll { $0.time <= now - Self.hour }
  }

  mutating func record(at now: Milliseconds, isFailure: Bool) {
    switches.append(Switch(time: now, isCounted: !isFailure))
    latest = now
  }

  /// The barrier that lasts longest; nil where the switch may be made.
  func barrier(at now: Milliseconds, _ settings: PolicySettings) -> Barrier? {
    let dwellEnd = latest.map { $0 + settings.dwell }.flatMap { $0 > now ? $0 : nil }
    let counted = switches.filter(\.isCounted)
    if counted.count >= settings.switchesPerHour {
      guard settings.switchesPerHour > 0 else { return .hour(until: nil) }
      let hourEnd = counted[counted.count - settings.switchesPerHour].time + Self.hour
      if hourEnd >= dwellEnd ?? now { return .hour(until: hourEnd) }
    }
    return dwellEnd.map { .dwell(until: $0, since: latest ?? now) }
  }
}
