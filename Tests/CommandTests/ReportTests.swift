import Foundation
import NIOCore
import Testing

@testable import MagicalaneCommand

/// Answers as the API gives them.
enum Samples {
  static func sessions(_ entries: [(id: Int, age: Double, up: Int, down: Int)], total: Int? = nil) throws
    -> AdminAPI.Sessions
  {
    let sessions = entries.map { entry in
      """
      {"id": \(entry.id), "state": "open", "frontend": "socks", "transport": "direct", "client": "192.0.2.1:5000",
       "user": null, "target": "example.com:443", "started": "2026-01-01T00:00:00.5Z",
       "age_seconds": \(entry.age), "bytes_up": \(entry.up), "bytes_down": \(entry.down), "waiting_up": 1,
       "waiting_down": 2, "copy": "buffer"}
      """
    }
    let body =
      #"{"sessions": [\#(sessions.joined(separator: ","))], "total": \#(total ?? entries.count), "#
      + #""offset": 0, "limit": 100}"#
    return try AdminAPI.decode(AdminAPI.Sessions.self, ByteBuffer(string: body))
  }

  static let status = ByteBuffer(
    string: """
      {"version": "0.1.0", "started": "2026-01-01T00:00:00.500Z", "uptime_seconds": 7500, "state": "running",
       "config": {"generation": 3, "origin": "reload", "applied": "2026-01-01T02:04:00.5Z",
                  "source": "/etc/lane.yaml", "tag": "x"},
       "sessions": 2, "frontends": 1, "transports": 1, "retiring": 1, "event_loops": 2,
       "memory": {"limit": 2147483648, "used": 1572864}}
      """
  )

  static let frontends = ByteBuffer(
    string: """
      {"frontends": [{"name": "socks", "type": "socks5", "listen": "tcp://127.0.0.1:0", "weight": 0.1,
        "status": {"state": "listening", "listen": "tcp://127.0.0.1:1080", "transport": "tokyo",
          "sessions": 2, "sessions_total": 18446744073709551615, "failed_total": 1, "bytes_up": 1536,
          "bytes_down": 0,
          "last_error": {"time": "2026-01-01T02:04:30Z", "message": "refused \\u001b[2J"}}}]}
      """
  )

  static let transports = ByteBuffer(
    string: """
      {"transports": [{"name": "tokyo", "type": "quic",
        "status": {"health": "up", "frontends": ["socks", "web"], "sessions": 2, "sessions_total": 9,
          "failed_total": 0, "bytes_up": 0, "bytes_down": 0, "last_error": null}}]}
      """
  )
}

@Suite struct StatusReportTests {
  private func report() throws -> StatusReport {
    StatusReport(
      status: try AdminAPI.decode(AdminAPI.Status.self, Samples.status),
      frontends: try AdminAPI.decode(AdminAPI.Frontends.self, Samples.frontends).frontends,
      transports: try AdminAPI.decode(AdminAPI.Transports.self, Samples.transports).transports
    )
  }

  @Test func `the status shows the program, its frontends and its transports`() throws {
    #expect(
      try report().lines == [
        "magicalane 0.1.0, running for 2h05m",
        "config: /etc/lane.yaml, generation 3 (reload, 1m00s ago)",
        "sessions: 2 on 2 event loops, 1 retiring",
        "memory: 1.5 MiB of 2.0 GiB wait in streams",
        "",
        "FRONTEND  TYPE    LISTEN                TRANSPORT  STATE      SESSIONS                 TOTAL  FAILED"
          + "       UP  DOWN  LAST ERROR",
        "socks     socks5  tcp://127.0.0.1:1080  tokyo      listening         2  18446744073709551615       1"
          + "  1.5 KiB   0 B  30s ago: refused \\u{1b}[2J",
        "",
        "TRANSPORT  TYPE  FRONTENDS  HEALTH  SESSIONS  TOTAL  FAILED   UP  DOWN  LAST ERROR",
        "tokyo      quic  socks,web  up             2      9       0  0 B   0 B  -",
      ]
    )
  }

  @Test func `the JSON of the status holds the three answers`() throws {
    let joined = try StatusJSON.joined(
      status: Samples.status,
      frontends: Samples.frontends,
      transports: Samples.transports
    )
    let text = String(buffer: joined)
    #expect(try AdminAPI.decode(AdminAPI.Frontends.self, joined).frontends.map(\.name) == ["socks"])
    #expect(try AdminAPI.decode(AdminAPI.Transports.self, joined).transports.map(\.name) == ["tokyo"])
    #expect(text.contains(#""weight" : 0.1"#) && text.contains("18446744073709551615"))
    #expect(text.contains(#""event_loops" : 2"#))
  }

  @Test(arguments: [
    ("[]", "it is no object"), (#"{"version": 1}"#, "'version' is of another type"),
    ("{}", "'version' is missing"), ("<html>", "it is no JSON"),
    ("", "it is no JSON"),
  ])
  func `an answer of another shape says what is wrong`(body: String, reason: String) throws {
    let error = #expect(throws: AdminClientError.self) {
      try AdminAPI.decode(AdminAPI.Status.self, ByteBuffer(string: body))
    }
    guard case .unexpected(reason) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}

@Suite struct SessionListTests {
  @Test func `sessions are a table`() throws {
    let list = SessionList(answer: try Samples.sessions([(7, 61.5, 2048, 10)]))
    #expect(
      list.lines() == [
        "ID  STATE    AGE  USER  CLIENT          TARGET           FRONTEND  TRANSPORT       UP  DOWN  WAITING",
        " 7  open   1m01s  -     192.0.2.1:5000  example.com:443  socks     direct     2.0 KiB  10 B      3 B",
      ]
    )
  }

  @Test func `a narrow terminal still shows the target and the rates`() throws {
    let answer = try Samples.sessions([(1, 86400, 1 << 30, 1 << 40)])
    let lines = SessionList(answer: answer, rates: SessionRates()).lines(width: 80)
    #expect(
      lines == [
        "ID  STATE    AGE  USER  TARGET                UP     DOWN  WAITING  UP/S  DOWN/S",
        " 1  open   1d00h  -     example.com:443  1.0 GiB  1.0 TiB      3 B     -       -",
      ]
    )
  }

  @Test func `it says how many sessions are not shown`() throws {
    let some = SessionList(answer: try Samples.sessions([(1, 1, 0, 0), (2, 1, 0, 0)], total: 9))
    #expect(some.lines().last == "… and 7 more")
    #expect(SessionList(answer: try Samples.sessions([])).lines() == ["no sessions"])
  }

  @Test(arguments: [(1, 0, 5), (2, 0, 5), (3, 1, 4), (5, 3, 2), (6, 5, 0), (9, 5, 0)])
  func `the list keeps to the terminal's height`(height: Int, shown: Int, missing: Int) throws {
    let list = SessionList(answer: try Samples.sessions((1...5).map { ($0, 1, 0, 0) }))
    let lines = list.lines(width: 80, height: height)
    #expect(lines.filter { $0.contains("open") }.count == shown)
    #expect(lines.last == "… and \(missing) more" || missing == 0)
    #expect(lines.count <= max(height, 2))
  }

  @Test func `a rate is the growth over what the session grew older`() throws {
    var rates = SessionRates()
    rates.update(try Samples.sessions([(1, 10, 1000, 0), (2, 5, 0, 0)]).sessions)
    #expect(rates[1] == nil && rates.total == nil)
    rates.update(try Samples.sessions([(1, 12, 2000, 300), (3, 1, 9, 9)]).sessions)
    #expect(rates[1] == SessionRates.Rate(up: 500, down: 150))
    #expect(rates[2] == nil && rates[3] == nil)
    #expect(rates.total == SessionRates.Rate(up: 500, down: 150))
  }

  @Test(arguments: [(10.0, 1000, 5), (4.0, 2000, 5), (11.0, 999, 5), (11.0, 1000, 4)])
  func `a session that did not grow older, or shrank, has no rate`(age: Double, up: Int, down: Int) throws {
    var rates = SessionRates()
    rates.update(try Samples.sessions([(1, 10, 1000, 5)]).sessions)
    rates.update(try Samples.sessions([(1, age, up, down)]).sessions)
    #expect(rates[1] == nil)
  }

  @Test func `rates stand in columns of their own`() throws {
    var rates = SessionRates()
    rates.update(try Samples.sessions([(1, 1, 0, 0)]).sessions)
    let answer = try Samples.sessions([(1, 3, 4096, 10), (2, 1, 0, 0)])
    rates.update(answer.sessions)
    let lines = SessionList(answer: answer, rates: rates).lines()
    #expect(lines[0].hasSuffix("UP/S  DOWN/S"))
    #expect(lines[1].hasSuffix("2.0 KiB/s   5 B/s"))
    #expect(lines[2].hasSuffix("        -       -"))
  }
}

@Suite struct ChangeReportTests {
  private func lines(_ changes: String, dryRun: Bool = false) throws -> [String] {
    let body = ByteBuffer(string: #"{"generation": 4, "dry_run": \#(dryRun), "changes": \#(changes)}"#)
    return ChangeReport(change: try AdminAPI.decode(AdminAPI.Change.self, body)).lines
  }

  private let none = #"{"added": [], "changed": [], "removed": []}"#

  @Test func `a change shows what was added, changed and removed`() throws {
    let some = #"{"added": ["a"], "changed": ["b", "c"], "removed": ["d"]}"#
    let changes = #"{"frontends": \#(some), "transports": \#(none), "sections": ["log"]}"#
    let parts = ["frontends: +a ~b ~c -d", "sections: ~log"]
    #expect(try lines(changes) == parts + ["config applied, generation 4"])
    #expect(try lines(changes, dryRun: true) == parts + ["dry run: nothing was changed"])
  }

  @Test func `no change is said to be none`() throws {
    let changes = #"{"frontends": \#(none), "transports": \#(none), "sections": []}"#
    #expect(try lines(changes) == ["nothing changed, generation 4"])
    #expect(try lines(changes, dryRun: true) == ["nothing would change"])
  }
}
