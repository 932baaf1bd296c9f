import MagicalaneCore

/// One of the two members, by what it is good for.
enum Side: Sendable {
  /// The one that does not bear loss: TCP, cheap where little is lost.
  case cheap
  /// The one that bears loss: QUIC.
  case robust

  var other: Side { self == .cheap ? .robust : .cheap }
}

/// What both members' conditions together say of the path, and the member that new sessions should take.
///
/// | cheap member | robust member | diagnosis | wanted |
/// |---|---|---|---|
/// | high | high | lossy path | robust |
/// | low | high | UDP policed or blocked | cheap |
/// | low | low | clean | cheap |
/// | high | low | TCP shaped | robust |
/// | down | other than down | down | robust |
/// | other than down | down | down | cheap |
/// | down | down | down | the chosen one, while both are tried |
/// | low | unknown | clean | cheap: it would be, whatever the other loses |
/// | high | unknown | unknown | robust: it would be, whatever it loses |
/// | unknown | unknown | unknown | the chosen one; at first the first of `members:` |
/// | unknown | low or high | unknown | the chosen one until the cheap one is known; at first the first of `members:` |
///
/// In the last row the robust one serves well enough, so there is no haste. But a path is clean more often than not,
/// and a member that nothing can be learned of by probing is learned of by use: where the robust one is the chosen
/// one and the cheap one stays unknown for `reach`, the cheap one is wanted, unless much was lost there last.
enum Diagnosis: Sendable, Equatable {
  case clean
  case lossyPath
  case udpPoliced
  case tcpShaped
  /// This member alone can be reached.
  case only(Side)
  case bothDown
  /// The cheap one loses much; what the other one loses is not known.
  case cheapLoses
  /// The cheap one was not known for long enough to be worth a try.
  case cheapUntried
  /// Too little is known for a choice.
  case unknown

  init(cheap: LegEstimate, robust: LegEstimate, isTrialDue: Bool) {
    self =
      switch (cheap.condition, robust.condition) {
      case (.down, .down): .bothDown
      case (.down, _): .only(.robust)
      case (_, .down): .only(.cheap)
      case (.high, .high): .lossyPath
      case (.low, .high): .udpPoliced
      case (.low, .low), (.low, .unknown): .clean
      case (.high, .low): .tcpShaped
      case (.high, .unknown): .cheapLoses
      case (.unknown, _): isTrialDue ? .cheapUntried : .unknown
      }
  }

  /// Nil where it leaves things as they are.
  var wanted: Side? {
    switch self {
    case .clean, .udpPoliced, .cheapUntried: .cheap
    case .lossyPath, .tcpShaped, .cheapLoses: .robust
    case .only(let side): side
    case .bothDown, .unknown: nil
    }
  }

  /// As in `Decision.diagnosis`.
  var text: String {
    switch self {
    case .clean: "clean"
    case .lossyPath: "lossy path"
    case .udpPoliced: "UDP policed or blocked"
    case .tcpShaped: "TCP shaped"
    case .only, .bothDown: "down"
    case .cheapLoses, .cheapUntried, .unknown: "unknown"
    }
  }
}
