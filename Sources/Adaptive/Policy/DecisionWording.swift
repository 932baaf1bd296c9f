import MagicalaneCore

/// The sentences of a decision, with their figures.
struct DecisionWording {
  typealias Sentences = (reason: String, whyNot: String)

  let settings: AdaptiveSettings
  let limits: PolicySettings
  let cheap: LegEstimate
  let robust: LegEstimate
  let now: Milliseconds
  /// `now` in seconds since 1970.
  let time: Double

  /// Why `chosen`, and why not the other one.
  func sentences(_ diagnosis: Diagnosis, chosen: Side, isFirst: Bool) -> Sentences {
    let other = state(chosen.other)
    return switch diagnosis {
    case .clean where robust.condition == .unknown:
      ("\(state(.cheap)), and it is the cheaper one", "\(other), and what it loses would change nothing")
    case .clean: ("\(state(.cheap)), and it is the cheaper one", "\(other), but it is the dearer one")
    case .lossyPath: ("\(name(.robust)) bears the loss of the path: \(state(.robust))", other)
    case .udpPoliced, .tcpShaped: (state(chosen), other)
    case .cheapLoses: ("\(name(.robust)) bears loss: \(state(.robust))", other)
    case .only: ("\(name(chosen)) can be reached: \(state(chosen))", other)
    case .bothDown: ("neither member can be reached, and both are tried again: \(state(chosen))", other)
    case .cheapUntried:
      (
        "\(state(.cheap)), for \(AdaptiveSettings.Key.reach.text(in: settings)) now, and use makes it known",
        other
      )
    case .unknown where isFirst: ("\(state(chosen)), and it is the first of members", other)
    case .unknown: ("\(name(chosen)) stays until more is known: \(state(chosen))", other)
    }
  }

  /// Why the chosen member stays although `wanted` is wanted.
  func heldBack(
    _ barrier: SwitchLimits.Barrier,
    _ diagnosis: Diagnosis,
    wanted: Side,
    switches: Int
  ) -> Sentences {
    let reason =
      switch barrier {
      case .dwell(let until, let since):
        "the last switch was \(seconds(now - since)) s ago, and dwell is "
          + "\(AdaptiveSettings.Key.dwell.text(in: settings)), until \(clockTime(until))"
      case .hour(let until?):
        "\(switches) switches were made within an hour, and switches_per_hour is \(limits.switchesPerHour), "
          + "until \(clockTime(until))"
      case .hour(nil): "switches_per_hour is 0"
      }
    let wish = sentences(diagnosis, chosen: wanted, isFirst: false).reason
    return ("\(name(wanted.other)) stays: \(reason)", "held back although \(wish)")
  }

  // MARK: One member

  private func leg(_ side: Side) -> LegEstimate { side == .cheap ? cheap : robust }
  private func name(_ side: Side) -> String { leg(side).member.name }

  /// `tokyo-tls lost 11.2 % of 412 packets upward, at or above enter_loss 10 %`
  private func state(_ side: Side) -> String {
    let leg = leg(side)
    if leg.isDown {
      let times = leg.failuresInRow == 1 ? "once" : "\(leg.failuresInRow) times in a row"
      return "\(leg.member.name) failed \(times) (\(leg.lastFailure ?? "no reason given"))"
    }
    guard let worst = leg.worst(limits) else { return littleKnown(leg) }
    return "\(leg.member.name) lost \(loss(worst)), \(comparison(leg.lossCondition, worst.loss.ratio))"
  }

  private func littleKnown(_ leg: LegEstimate) -> String {
    guard let best = leg.best else { return "nothing is known of what \(leg.member.name) loses" }
    return "\(leg.member.name) lost \(loss(best)), fewer than min_packets \(settings.minPackets)"
  }

  private func loss(_ known: (direction: LegEstimate.Direction, loss: LossWindow.Estimate)) -> String {
    let direction = known.direction == .up ? "upward" : "downward"
    return "\(percent(known.loss.ratio)) of \(known.loss.sent) packets \(direction)"
  }

  private func comparison(_ condition: LegEstimate.Condition, _ ratio: Double) -> String {
    let enter = "enter_loss \(threshold(settings.enterLoss))"
    let leave = "leave_loss \(threshold(settings.leaveLoss))"
    return switch condition {
    case .unknown where ratio >= limits.enterLoss, .low where ratio >= limits.enterLoss:
      "at or above \(enter), but at once, as a queue does that overflows"
    case .unknown: "too few to tell from \(enter)"
    case .low: "below \(enter)"
    case .high where ratio >= limits.enterLoss: "at or above \(enter)"
    case .high(nil): "below \(enter) but still above \(leave)"
    case .high(let since?):
      "at or below \(leave) for \(seconds(now - since)) s of hold \(AdaptiveSettings.Key.hold.text(in: settings))"
    }
  }

  // MARK: Figures

  /// `11.2 %`, `10.0 %`
  private func percent(_ ratio: Double) -> String {
    let tenths = Int((ratio * 1000).rounded())
    return "\(tenths / 10).\(tenths % 10) %"
  }

  /// `10 %`, `2.25 %`
  private func threshold(_ ratio: Ratio) -> String { "\("\(ratio)".dropLast()) %" }

  private func seconds(_ duration: Milliseconds) -> Milliseconds { duration / 1000 }

  /// `12:00:30 UTC`
  private func clockTime(_ moment: Milliseconds) -> String {
    let day = 86400.0
    let ofDay = (time + Double(moment - now) / 1000).truncatingRemainder(dividingBy: day)
    let total = Int((ofDay < 0 ? ofDay + day : ofDay).rounded(.down))
    let parts = [total / 3600, total / 60 % 60, total % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
    return parts.joined(separator: ":") + " UTC"
  }
}
