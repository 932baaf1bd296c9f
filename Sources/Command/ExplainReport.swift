import Foundation
import MagicalaneAdaptive
import MagicalaneCore

/// What `magicalane explain` shows of one run to people.
struct ExplainReport {
  var run: TraceRuns.Run

  private var replay: TraceReplay { run.replay }

  /// All runs, an empty line between two.
  static func lines(_ runs: [TraceRuns.Run]) -> [String] {
    Array(runs.map { ExplainReport(run: $0).lines }.joined(separator: [""]))
  }

  var lines: [String] {
    (head + replay.decisions.flatMap { [""] + block($0) }).map(\.printable)
      + [""] + summary.lines() + [switches.printable]
  }

  private var head: [String] {
    let header = replay.header
    let members = header.members.map { "\($0.name) (\($0.type))" }.joined(separator: ", ")
    let span = replay.span.map { ", \(time($0.lowerBound)) to \(time($0.upperBound)) UTC" } ?? ""
    let changes = AdaptiveSettings.Key.allCases.compactMap { key in
      let (now, recorded) = (key.text(in: replay.settings), key.text(in: header.settings))
      return now == recorded ? nil : "\(key.rawValue) \(now), recorded with \(recorded)"
    }
    return [
      "\(header.transport): \(members)",
      "\(Amount.count(replay.samples, "sample"))\(span)",
    ] + changes
  }

  /// A decision in three lines.
  private func block(_ decision: Decision) -> [String] {
    let took = decision.previous == decision.chosen ? "keeps" : "takes"
    let alternative = decision.alternative ?? "the other"
    let width = max(decision.chosen.columns, alternative.columns)
    func line(_ word: String, _ member: String, _ text: String?) -> String {
      "  \(word) \(member)\(String(repeating: " ", count: width - member.columns))  \(text ?? "")"
    }
    return [
      "\(time(decision.time.timeIntervalSince1970))  \(decision.diagnosis)",
      line(took, decision.chosen, decision.reason),
      line("  not", alternative, decision.whyNot),
    ]
  }

  private var summary: TextTable {
    var table = TextTable([.text("MEMBER"), .number("TIME"), .number("SHARE")])
    if run.recorded != nil {
      table = TextTable([
        .text("MEMBER"), .number("TIME"), .number("SHARE"), .number("RECORDED TIME"), .number("SHARE"),
      ])
    }
    for place in replay.header.members.indices {
      var cells = [replay.header.members[place].name] + share(replay.secondsChosen, place)
      if let recorded = run.recorded { cells += share(recorded.secondsChosen, place) }
      table.append(cells)
    }
    return table
  }

  private func share(_ seconds: [Double], _ place: Int) -> [String] {
    let total = seconds.reduce(0, +)
    let part = total > 0 ? seconds[place] / total * 100 : 0
    return [Amount.duration(seconds: seconds[place]), String(format: "%.1f %%", part)]
  }

  private var switches: String {
    func text(_ replay: TraceReplay) -> String {
      "\(replay.switches), \(replay.failureSwitches) for a failure"
    }
    return "switches: \(text(replay))" + (run.recorded.map { "; recorded: \(text($0))" } ?? "")
  }

  /// In UTC: `2026-01-01 00:00:00`.
  private func time(_ seconds: Double) -> String {
    let format = Date.ISO8601FormatStyle(dateTimeSeparator: .space).year().month().day()
      .time(includingFractionalSeconds: false)
    return Date(timeIntervalSince1970: seconds).formatted(format)
  }
}

/// What `magicalane explain --json` writes.
enum ExplainJSON {
  private struct DecisionLine: Encodable {
    var transport: String
    var decision: Decision
  }

  private struct SummaryLine: Encodable {
    struct Member: Encodable {
      var member: String
      var seconds: Double
      var recordedSeconds: Double?
    }
    struct Summary: Encodable {
      var samples: Int
      var members: [Member]
      var switches: Int
      var failureSwitches: Int
      var recordedSwitches: Int?
      var settings: AdaptiveSettings
    }
    var transport: String
    var summary: Summary
  }

  /// A line for each decision of a run, then one for the run.
  static func lines(_ run: TraceRuns.Run) throws -> [String] {
    let replay = run.replay
    let members = replay.header.members.indices.map { place in
      SummaryLine.Member(
        member: replay.header.members[place].name,
        seconds: replay.secondsChosen[place],
        recordedSeconds: run.recorded?.secondsChosen[place]
      )
    }
    let summary = SummaryLine.Summary(
      samples: replay.samples,
      members: members,
      switches: replay.switches,
      failureSwitches: replay.failureSwitches,
      recordedSwitches: run.recorded?.switches,
      settings: replay.settings
    )
    let transport = replay.header.transport
    return try replay.decisions.map { try line(DecisionLine(transport: transport, decision: $0)) }
      + [line(SummaryLine(transport: transport, summary: summary))]
  }

  private static func line(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.dateEncodingStrategy = .custom { date, encoder in
      var container = encoder.singleValueContainer()
      try container.encode(date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
    }
    return JSONForm.harmless(String(decoding: try encoder.encode(value), as: UTF8.self))
  }
}
