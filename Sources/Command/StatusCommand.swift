import ArgumentParser
import Foundation
import NIOCore

struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show what a running magicalane does: its frontends, its transports, what they carried."
  )

  @OptionGroup var admin: AdminOptions

  func run() async throws {
    try await admin.perform { client in
      let status = try await client.body(AdminRequest(path: "/v1/status"))
      let frontends = try await client.body(AdminRequest(path: "/v1/frontends"))
      let transports = try await client.body(AdminRequest(path: "/v1/transports"))
      let report = StatusReport(
        status: try AdminAPI.decode(AdminAPI.Status.self, status),
        frontends: try AdminAPI.decode(AdminAPI.Frontends.self, frontends).frontends,
        transports: try AdminAPI.decode(AdminAPI.Transports.self, transports).transports
      )
      if admin.json {
        try StandardOutput.write(
          json: StatusJSON.joined(status: status, frontends: frontends, transports: transports)
        )
      } else {
        try StandardOutput.write(lines: report.lines)
      }
    }
  }
}

/// The three answers as one object: `{"status": {…}, "frontends": […], "transports": […]}`.
enum StatusJSON {
  static func joined(status: ByteBuffer, frontends: ByteBuffer, transports: ByteBuffer)
    throws(AdminClientError) -> ByteBuffer
  {
    let object: [String: Any] = [
      "status": try parsed(status),
      "frontends": try parsed(frontends)["frontends"] ?? [Any](),
      "transports": try parsed(transports)["transports"] ?? [Any](),
    ]
    do {
      let options: JSONSerialization.WritingOptions = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      return ByteBuffer(bytes: try JSONSerialization.data(withJSONObject: object, options: options))
    } catch {
      throw .unexpected(reason: "\(error)")
    }
  }

  private static func parsed(_ body: ByteBuffer) throws(AdminClientError) -> [String: Any] {
    let object = try? JSONSerialization.jsonObject(with: Data(body.readableBytesView))
    guard let object = object as? [String: Any] else { throw .unexpected(reason: "it is no JSON object") }
    return object
  }
}

/// What `magicalane status` shows.
struct StatusReport {
  var status: AdminAPI.Status
  var frontends: [AdminAPI.Frontend]
  var transports: [AdminAPI.Transport]

  var lines: [String] {
    summary.map(\.printable) + [""] + frontendTable.lines() + [""] + transportTable.lines()
  }

  private var summary: [String] {
    let config = status.config
    let retiring = status.retiring == 0 ? "" : ", \(status.retiring) retiring"
    return [
      "magicalane \(status.version), \(status.state) for \(Amount.duration(seconds: status.uptimeSeconds))",
      "config: \(config.source), generation \(config.generation) (\(config.origin), \(ago(config.applied)))",
      "sessions: \(status.sessions) on \(Amount.count(status.eventLoops, "event loop"))\(retiring)",
      "memory: \(Amount.bytes(status.memory.used)) of \(Amount.bytes(status.memory.limit)) wait in streams",
    ]
  }

  private var frontendTable: TextTable {
    var table = TextTable([
      .text("FRONTEND"), .text("TYPE"), .text("LISTEN"), .text("TRANSPORT"), .text("STATE"),
      .number("SESSIONS"), .number("TOTAL"), .number("FAILED"), .number("UP"), .number("DOWN"),
      .text("LAST ERROR"),
    ])
    for frontend in frontends {
      let status = frontend.status
      table.append([
        frontend.name, frontend.type, status.listen, status.transport, status.state,
        "\(status.sessions)", "\(status.sessionsTotal)", "\(status.failedTotal)",
        Amount.bytes(status.bytesUp), Amount.bytes(status.bytesDown), text(status.lastError),
      ])
    }
    return table
  }

  private var transportTable: TextTable {
    var table = TextTable([
      .text("TRANSPORT"), .text("TYPE"), .text("FRONTENDS"), .text("HEALTH"),
      .number("SESSIONS"), .number("TOTAL"), .number("FAILED"), .number("UP"), .number("DOWN"),
      .text("LAST ERROR"),
    ])
    for transport in transports {
      let status = transport.status
      table.append([
        transport.name, transport.type,
        status.frontends.isEmpty ? "-" : status.frontends.joined(separator: ","),
        status.health, "\(status.sessions)", "\(status.sessionsTotal)", "\(status.failedTotal)",
        Amount.bytes(status.bytesUp), Amount.bytes(status.bytesDown), text(status.lastError),
      ])
    }
    return table
  }

  private func text(_ error: AdminAPI.LastError?) -> String {
    error.map { "\(ago($0.time)): \($0.message)" } ?? "-"
  }

  /// By the clock of the program that was asked, which may be far from this one's.
  private func ago(_ time: String) -> String {
    guard let started = AdminAPI.time(status.started), let then = AdminAPI.time(time) else { return time }
    let now = started.addingTimeInterval(status.uptimeSeconds)
    return "\(Amount.duration(seconds: now.timeIntervalSince(then))) ago"
  }
}
