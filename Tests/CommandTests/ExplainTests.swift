import Foundation
import MagicalaneAdaptive
import MagicalaneCore
import Testing

@testable import MagicalaneCommand

@Suite struct ExplainTests {
  private static let header = TraceHeader(
    transport: "tokyo",
    members: [
      AdaptiveMember(name: "tokyo-quic", type: "quic", bearsLoss: true),
      AdaptiveMember(name: "tokyo-tls", type: "tls", bearsLoss: false),
    ],
    settings: AdaptiveSettings()
  )

  /// Clean for a minute, then a tenth of the packets is lost for two, then clean for two and a half.
  private static func trace() throws -> String {
    let samples = (0..<330).map { second in
      let lost: UInt64 = (60..<180).contains(second) ? 3 : 0
      let leg = LegSample(up: .init(sent: 30, lost: lost), down: .init(sent: 30, lost: 0), isHeard: true)
      return PathSample(time: 1_800_000_000 + Double(second), legs: [leg, leg])
    }
    return try TraceLine.header(header).text() + samples.map { try TraceLine.sample($0).text() }.joined()
  }

  private func runs(_ text: String? = nil, _ changes: (String, String)...) throws -> [TraceRuns.Run] {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data((text ?? Self.trace()).utf8).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    return try TraceRuns(files: [file.path], changes: changes.map { (key: $0.0, text: $0.1) }).runs
  }

  @Test func `each decision is shown with its reason, and the times of the members`() throws {
    let lines = ExplainReport.lines(try runs())
    #expect(
      lines == [
        "tokyo: tokyo-quic (quic), tokyo-tls (tls)",
        "330 samples, 2027-01-15 08:00:00 to 2027-01-15 08:05:29 UTC",
        "",
        "2027-01-15 08:00:00  unknown",
        "  takes tokyo-quic  tokyo-quic lost 0.0 % of 30 packets upward, fewer than min_packets 50, "
          + "and it is the first of members",
        "    not tokyo-tls   tokyo-tls lost 0.0 % of 30 packets upward, fewer than min_packets 50",
        "",
        "2027-01-15 08:00:01  clean",
        "  takes tokyo-tls   tokyo-tls lost 0.0 % of 60 packets upward, below enter_loss 5 %, "
          + "and it is the cheaper one",
        "    not tokyo-quic  tokyo-quic lost 0.0 % of 60 packets upward, below enter_loss 5 %, "
          + "but it is the dearer one",
        "",
        "2027-01-15 08:01:04  lossy path",
        "  takes tokyo-quic  tokyo-quic bears the loss of the path: tokyo-quic lost 5.0 % of 300 packets upward, "
          + "at or above enter_loss 5 %",
        "    not tokyo-tls   tokyo-tls lost 5.0 % of 300 packets upward, at or above enter_loss 5 %",
        "",
        "2027-01-15 08:04:07  clean",
        "  takes tokyo-tls   tokyo-tls lost 0.0 % of 300 packets upward, below enter_loss 5 %, "
          + "and it is the cheaper one",
        "    not tokyo-quic  tokyo-quic lost 0.0 % of 300 packets upward, below enter_loss 5 %, "
          + "but it is the dearer one",
        "",
        "MEMBER       TIME   SHARE",
        "tokyo-quic  3m04s  55.9 %",
        "tokyo-tls   2m25s  44.1 %",
        "switches: 3, 0 for a failure",
      ]
    )
  }

  @Test func `with other thresholds the report tells both outcomes`() throws {
    let lines = ExplainReport.lines(try runs(nil, ("enter_loss", "20%"), ("hold", "10s")))
    #expect(lines.contains("enter_loss 20%, recorded with 5%"))
    #expect(lines.contains("hold 10s, recorded with 60s"))
    #expect(
      lines.suffix(4) == [
        "MEMBER       TIME   SHARE  RECORDED TIME   SHARE",
        "tokyo-quic     1s   0.3 %          3m04s  55.9 %",
        "tokyo-tls   5m28s  99.7 %          2m25s  44.1 %",
        "switches: 1, 0 for a failure; recorded: 3, 0 for a failure",
      ]
    )
  }

  @Test func `as JSON each line is an object, the same at each run`() throws {
    let (lines, again) = (try runs().flatMap(ExplainJSON.lines), try runs().flatMap(ExplainJSON.lines))
    #expect(lines == again)
    #expect(lines.count == 5)
    let objects = try lines.map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    let first = try #require(objects[0]["decision"] as? [String: Any])
    #expect(first["time"] as? String == "2027-01-15T08:00:00.000Z")
    #expect(first["switches_in_hour"] as? Int == 0)
    #expect((first["thresholds"] as? [String: Double])?["enter_loss"] == 0.05)
    let summary = try #require(objects[4]["summary"] as? [String: Any])
    #expect(summary["switches"] as? Int == 3)
  }

  @Test func `what a member's failure says cannot steer a terminal`() throws {
    let failed = PathSample(time: 0, legs: [LegSample(failures: ["\u{1b}[2J"]), LegSample()])
    let text = try TraceLine.header(Self.header).text() + TraceLine.sample(failed).text()
    let (report, json) = (ExplainReport.lines(try runs(text)), try runs(text).flatMap(ExplainJSON.lines))
    #expect(report.contains { $0.contains("\\u{1b}[2J") })
    #expect(!(report + json).contains { $0.contains("\u{1b}") })
  }

  @Test(arguments: [
    ("enter_los", "1%", "--set unknown key 'enter_los'; did you mean 'enter_loss'?"),
    ("enter_loss", "x", "--set enter_loss: expected a ratio such as 10% or 0.1, found 'x'"),
    ("leave_loss", "6%", "--set leave_loss: must not be above enter_loss, which is 5%; it is 6%"),
  ])
  func `a bad change is bad usage`(key: String, text: String, message: String) {
    let failure = #expect(throws: Failure.self) { try runs(nil, (key, text)) }
    #expect(failure?.message == message)
    #expect(failure?.status == 2)
  }

  @Test func `a bad file is bad usage`() {
    let failure = #expect(throws: Failure.self) { try runs("hello\n") }
    #expect(failure?.message.hasSuffix(":1: is no JSON object") == true)
    #expect(failure?.status == 2)
  }

  @Test func `members of one kind are bad usage`() throws {
    var header = Self.header
    header.members[1].bearsLoss = true
    let text = try TraceLine.header(header).text()
    let failure = #expect(throws: Failure.self) { try runs(text) }
    #expect(failure?.message.contains("members: needs one member that bears loss") == true)
  }

  @Test(arguments: [["explain"], ["explain", "--trace"], ["explain", "--trace", "a", "--sett", "b=1"]])
  func `the command line is checked`(arguments: [String]) {
    #expect(throws: (any Error).self) { try Magicalane.parseAsRoot(arguments) }
  }

  @Test func `a change needs a key and a value`() throws {
    let command = try Magicalane.parseAsRoot(["explain", "--trace", "a", "--set", "hold"])
    let explain = try #require(command as? ExplainCommand)
    let failure = #expect(throws: Failure.self) { try explain.run() }
    #expect(failure?.message == "--set hold: expected key=value, such as enter_loss=10%")
  }
}
