import MagicalaneCore
import Metrics

/// What a group shows of its members. Instruments are made once; a session costs one addition.
final class GroupMetrics: Sendable {
  private struct Member: Sendable {
    var opened: Counter
    var failed: Counter
    var chosen: Gauge
    var lossUp: Gauge
    var lossDown: Gauge
    var roundTrip: Gauge
    var probeBytes: Gauge
  }

  private let members: [Member]
  private let switches: Counter

  init(transport: String, members names: [String]) {
    members = names.map { name in
      let dimensions = [("transport", transport), ("member", name)]
      func gauge(_ label: String, _ more: [(String, String)] = []) -> Gauge {
        Gauge(label: "magicalane_path_\(label)", dimensions: dimensions + more)
      }
      return Member(
        opened: Counter(label: "magicalane_path_streams_opened_total", dimensions: dimensions),
        failed: Counter(label: "magicalane_path_failures_total", dimensions: dimensions),
        chosen: gauge("chosen"),
        lossUp: gauge("loss_ratio", [("direction", "up")]),
        lossDown: gauge("loss_ratio", [("direction", "down")]),
        roundTrip: gauge("rtt_seconds"),
        probeBytes: gauge("probe_bytes")
      )
    }
    switches = Counter(label: "magicalane_path_switches_total", dimensions: [("transport", transport)])
  }

  deinit {
    for member in members {
      member.opened.destroy()
      member.failed.destroy()
      for gauge in [member.chosen, member.lossUp, member.lossDown, member.roundTrip, member.probeBytes] {
        gauge.destroy()
      }
    }
    switches.destroy()
  }

  func opened(_ member: Int) { members[member].opened.increment() }

  func failed(_ member: Int) { members[member].failed.increment() }

  /// New sessions take that member from now on.
  func chose(_ index: Int?, insteadOf previous: String?) {
    if previous != nil { switches.increment() }
    for (member, instruments) in members.enumerated() { instruments.chosen.record(member == index ? 1 : 0) }
  }

  func record(_ statuses: [PathStatus], _ legs: [Leg]) {
    for (member, (status, leg)) in zip(members, zip(statuses, legs)) {
      if let loss = status.up { member.lossUp.record(loss.ratio) }
      if let loss = status.down { member.lossDown.record(loss.ratio) }
      if let time = status.roundTrip { member.roundTrip.record(time) }
      member.probeBytes.record(Double(leg.probeBytes.load(ordering: .relaxed)))
    }
  }
}
