import Foundation
import NIOCore
import UnixSignals

/// How fast sessions move bytes, from two looks at each.
struct SessionRates {
  /// In bytes per second, between the last two looks.
  struct Rate: Equatable {
    var up: Double
    var down: Double
  }

  private var seen: [UInt64: AdminAPI.Session] = [:]
  private var rates: [UInt64: Rate] = [:]

  subscript(id: UInt64) -> Rate? { rates[id] }

  /// All sessions of the last look together; nil where none was seen before.
  var total: Rate? {
    guard !rates.isEmpty else { return nil }
    return rates.values.reduce(Rate(up: 0, down: 0)) { Rate(up: $0.up + $1.up, down: $0.down + $1.down) }
  }

  /// Takes the next look; sessions that are not in it are forgotten.
  ///
  /// Time is what the sessions' ages grew by: the asked program's clock, which neither the network nor this
  /// host's clock disturbs. One that got younger, or whose counts fell, is another of the same number.
  mutating func update(_ sessions: [AdminAPI.Session]) {
    rates = [:]
    for session in sessions {
      guard let before = seen[session.id], session.ageSeconds > before.ageSeconds,
        session.bytesUp >= before.bytesUp, session.bytesDown >= before.bytesDown
      else { continue }
      let seconds = session.ageSeconds - before.ageSeconds
      rates[session.id] = Rate(
        up: Double(session.bytesUp - before.bytesUp) / seconds,
        down: Double(session.bytesDown - before.bytesDown) / seconds
      )
    }
    seen = Dictionary(sessions.map { ($0.id, $0) }, uniquingKeysWith: { _, last in last })
  }
}

/// Shows the sessions again and again, until SIGINT or SIGTERM.
struct SessionsWatch {
  var client: AdminClient
  var request: AdminRequest
  var interval: Duration
  /// Nil where the lists are written one behind the other.
  var terminal: Terminal?
  var isJSON: Bool

  func run() async throws {
    let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
    try terminal?.enter()
    defer { terminal?.leave() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      defer { group.cancelAll() }
      group.addTask { for await _ in signals { return } }
      group.addTask { try await follow() }
      try await group.next()
    }
  }

  private func follow() async throws {
    var rates = SessionRates()
    while true {
      let body = try await client.body(request)
      let answer = try AdminAPI.decode(AdminAPI.Sessions.self, body)
      rates.update(answer.sessions)
      try show(body, SessionList(answer: answer, rates: rates))
      try await Task.sleep(for: interval)
    }
  }

  private func show(_ body: ByteBuffer, _ list: SessionList) throws {
    if isJSON {
      try StandardOutput.write(lines: [JSONForm.harmless(JSONForm.compact(body.readableBytesView))])
    } else if let terminal {
      let size = terminal.size
      let heading = heading(list).clipped(to: size.width)
      // Two lines for the heading and the empty one below it.
      let lines = [heading, ""] + list.lines(width: size.width, height: max(size.height - 2, 1))
      try terminal.show(Array(lines.prefix(size.height)))
    } else {
      try StandardOutput.write(lines: [heading(list)] + list.lines() + [""])
    }
  }

  private func heading(_ list: SessionList) -> String {
    let time = Date.now.formatted(.iso8601)
    let total = list.rates?.total
    let rates = total.map { ", up \(Amount.rate($0.up)), down \(Amount.rate($0.down))" } ?? ""
    // The rates are those of the listed sessions.
    let listed = list.answer.sessions.count
    let part = listed < list.answer.total ? "\(listed) of " : ""
    let sessions = Amount.count(list.answer.total, "session")
    return "\(time)  \(client.address)  \(part)\(sessions)\(rates)".printable
  }
}
