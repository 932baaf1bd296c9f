import ArgumentParser

struct ReloadCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Let a running magicalane read its config again, and show what changed.",
    discussion: "A config that is wrong is refused, and the one before goes on."
  )

  @OptionGroup var admin: AdminOptions

  @Flag(help: "Only show what would change.")
  var dryRun = false

  func run() async throws {
    try await admin.perform { client in
      let query = dryRun ? [(name: "dry_run", value: "true")] : []
      let body = try await client.body(
        AdminRequest(method: .POST, path: "/v1/config/reload", query: query)
      )
      let change = try AdminAPI.decode(AdminAPI.Change.self, body)
      if admin.json {
        try StandardOutput.write(json: body)
      } else {
        try StandardOutput.write(lines: ChangeReport(change: change).lines)
      }
    }
  }
}

/// What a change of the config did, or would do.
struct ChangeReport {
  var change: AdminAPI.Change

  /// A line for each part that differs (`frontends: +added ~changed -removed`), then what became of it.
  var lines: [String] {
    let parts = [
      ("frontends", marked(change.changes.frontends)), ("transports", marked(change.changes.transports)),
      ("sections", change.changes.sections.map { "~\($0)" }),
    ].filter { !$0.1.isEmpty }
    let differences = parts.map { "\($0): \($1.joined(separator: " "))".printable }
    return differences + [outcome(isSame: parts.isEmpty)]
  }

  private func marked(_ entries: AdminAPI.Change.Entries) -> [String] {
    entries.added.map { "+\($0)" } + entries.changed.map { "~\($0)" } + entries.removed.map { "-\($0)" }
  }

  private func outcome(isSame: Bool) -> String {
    switch (isSame, change.dryRun) {
    case (true, true): "nothing would change"
    case (true, false): "nothing changed, generation \(change.generation)"
    case (false, true): "dry run: nothing was changed"
    case (false, false): "config applied, generation \(change.generation)"
    }
  }
}
