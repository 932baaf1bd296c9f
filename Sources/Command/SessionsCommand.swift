import ArgumentParser
import MagicalaneCore

struct SessionsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sessions",
    abstract: "List the live sessions of a running magicalane, watch them, end them.",
    discussion: """
      With --watch the list is drawn again and again, with how fast each session moves bytes; Ctrl-C ends it. \
      Into a file or a pipe the lists are written one behind the other.
      """
  )

  @OptionGroup var filter: SessionFilter
  @OptionGroup var admin: AdminOptions

  @Flag(name: .shortAndLong, help: "Show the list again and again.")
  var watch = false

  @Option(help: ArgumentHelp("With --watch: the time between two lists, such as 500ms.", valueName: "time"))
  var interval = "1s"

  @Option(help: ArgumentHelp("End this session; repeat it for more.", valueName: "id"))
  var end: [UInt64] = []

  func validate() throws {
    guard let interval = ConfigDuration(configText: interval), interval.amount >= .milliseconds(100) else {
      throw ValidationError("--interval '\(interval.printable)': expected 100ms or more, such as 500ms or 2s")
    }
    guard end.isEmpty || (!watch && filter.query.isEmpty) else {
      throw ValidationError("--end takes no filter and no --watch")
    }
  }

  func run() async throws {
    try await admin.perform { client in
      if !end.isEmpty {
        try await endSessions(client)
      } else if watch {
        try await watchSessions(client)
      } else {
        try await listSessions(client)
      }
    }
  }

  private func listSessions(_ client: AdminClient) async throws {
    let body = try await client.body(filter.request)
    let answer = try AdminAPI.decode(AdminAPI.Sessions.self, body)
    if admin.json {
      try StandardOutput.write(json: body)
    } else {
      try StandardOutput.write(lines: SessionList(answer: answer).lines())
    }
  }

  private func endSessions(_ client: AdminClient) async throws {
    for id in end {
      _ = try await client.body(AdminRequest(method: .DELETE, path: "/v1/sessions/\(id)"))
      if !admin.json { try StandardOutput.write(lines: ["session \(id) ended"]) }
    }
  }

  private func watchSessions(_ client: AdminClient) async throws {
    // `validate` has read the same text.
    let interval = ConfigDuration(configText: interval)?.amount ?? .seconds(1)
    let watch = SessionsWatch(
      client: client,
      request: filter.request,
      interval: .nanoseconds(interval.nanoseconds),
      terminal: admin.json ? nil : Terminal(),
      isJSON: admin.json
    )
    try await watch.run()
  }
}

/// Which sessions are listed, and in which order.
struct SessionFilter: ParsableArguments {
  @Option(help: ArgumentHelp("Only those that this frontend accepted.", valueName: "name"))
  var frontend: String?

  @Option(help: ArgumentHelp("Only those that this transport carries.", valueName: "name"))
  var transport: String?

  @Option(help: ArgumentHelp("Only those of this user.", valueName: "name"))
  var user: String?

  @Option(help: ArgumentHelp("Only those whose HOST:PORT contains this text.", valueName: "text"))
  var target: String?

  @Option(help: "Only those in this state: \(SessionFilter.states).")
  var state: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Sort by \(SessionFilter.sortKeys.joined(separator: ", ")); '-' before it puts the largest first.",
      valueName: "key"
    )
  )
  var sort: String?

  @Option(help: ArgumentHelp("How many at most, 1 to 1000 (default: 100).", valueName: "number"))
  var limit: Int?

  private static let states = SessionInfo.State.allCases.map(\.rawValue).joined(separator: ", ")
  private static let sortKeys = ["id", "age", "bytes", "bytes_up", "bytes_down"]

  func validate() throws {
    if let state, SessionInfo.State(rawValue: state) == nil {
      throw ValidationError("--state '\(state.printable)': expected one of \(Self.states)")
    }
    if let sort, !Self.sortKeys.contains(sort.hasPrefix("-") ? String(sort.dropFirst()) : sort) {
      let keys = Self.sortKeys.joined(separator: ", ")
      throw ValidationError("--sort '\(sort.printable)': expected one of \(keys), with '-' before it or not")
    }
    if let limit, !(1...1000).contains(limit) {
      throw ValidationError("--limit \(limit): expected 1 to 1000")
    }
  }

  /// What of it was given.
  var query: [(name: String, value: String)] {
    let pairs = [
      ("frontend", frontend), ("transport", transport), ("user", user), ("target", target), ("state", state),
      ("sort", sort), ("limit", limit.map(String.init)),
    ]
    return pairs.compactMap { name, value in value.map { (name, $0) } }
  }

  var request: AdminRequest { AdminRequest(path: "/v1/sessions", query: query) }
}

extension AdminAPI.Session {
  /// The transport, and behind it the member that it chose.
  fileprivate var carriedBy: String { member.map { "\(transport)/\($0)" } ?? transport }
}

/// The table of live sessions.
struct SessionList {
  var answer: AdminAPI.Sessions
  /// Nil where rates are not shown.
  var rates: SessionRates?

  /// The table, and a line that says how many are not in it.
  ///
  /// - Parameters:
  ///   - width: of the terminal; nil where lines may be of any length.
  ///   - height: how many lines there may be; nil where any number.
  func lines(width: Int? = nil, height: Int? = nil) -> [String] {
    guard !answer.sessions.isEmpty else { return ["no sessions"] }
    let room = height.map { max($0 - 1, 0) } ?? answer.sessions.count
    let isWhole = answer.total <= min(room, answer.sessions.count)
    // The last line is for the rest, where there is one and a limit.
    let shown = isWhole || height == nil ? room : max(room - 1, 0)
    let table = table(answer.sessions.prefix(shown)).lines(width: width)
    let missing = answer.total - min(shown, answer.sessions.count)
    guard missing > 0 else { return table }
    let rest = "… and \(missing) more"
    return table + [width.map { rest.clipped(to: $0) } ?? rest]
  }

  private func table(_ sessions: some Sequence<AdminAPI.Session>) -> TextTable {
    var columns: [TextTable.Column] = [
      .number("ID"), .text("STATE", expendability: 1), .number("AGE"), .elastic("USER", narrowest: 8),
      .elastic("CLIENT", narrowest: 15, expendability: 5), .elastic("TARGET", narrowest: 16),
      .elastic("FRONTEND", narrowest: 8, expendability: 4),
      .elastic("TRANSPORT", narrowest: 9, expendability: 3),
      .number("UP"), .number("DOWN"), .number("WAITING", expendability: 2),
    ]
    if rates != nil { columns += [.number("UP/S"), .number("DOWN/S")] }
    var table = TextTable(columns)
    for session in sessions {
      let waiting = session.waitingUp.addingReportingOverflow(session.waitingDown).partialValue
      var cells = [
        "\(session.id)", session.state, Amount.duration(seconds: session.ageSeconds), session.user ?? "-",
        session.client ?? "-", session.target ?? "-", session.frontend, session.carriedBy,
        Amount.bytes(session.bytesUp), Amount.bytes(session.bytesDown), Amount.bytes(waiting),
      ]
      if let rates {
        let rate = rates[session.id]
        cells += [Amount.rate(rate?.up), Amount.rate(rate?.down)]
      }
      table.append(cells)
    }
    return table
  }
}
