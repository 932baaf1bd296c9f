import FoundationEssentials
import MagicalaneCore

/// What the API shows of the program, in the words of `openapi.yaml`.

struct StatusBody: Encodable {
  struct Config: Encodable {
    var generation: Int
    var origin: ConfigOrigin
    var applied: Date
    var source: String
    var tag: String
  }

  var version: String
  var started: Date
  var uptimeSeconds: Double
  var state: String
  var config: Config?
  var sessions: Int
  var frontends: Int
  var transports: Int
  var retiring: Int
  var eventLoops: Int
  var memory: Memory

  struct Memory: Encodable {
    var limit: Int
    var used: Int
  }

  enum CodingKeys: String, CodingKey {
    case version, started, state, config, sessions, frontends, transports, retiring, memory
    case uptimeSeconds = "uptime_seconds"
    case eventLoops = "event_loops"
  }
}

struct HealthBody: Encodable {
  var status: String
  var reasons: [String]?
}

struct LogLevelBody: Codable {
  var level: String
}

/// What a frontend or a transport carried, beside what is particular to it.
struct TotalsBody: Encodable {
  struct Failure: Encodable {
    var time: Date
    var message: String
  }

  private enum CodingKeys: String, CodingKey {
    case sessions
    case sessionsTotal = "sessions_total"
    case failedTotal = "failed_total"
    case bytesUp = "bytes_up"
    case bytesDown = "bytes_down"
    case lastError = "last_error"
  }

  var totals: Totals

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(totals.sessions, forKey: .sessions)
    try container.encode(totals.started, forKey: .sessionsTotal)
    try container.encode(totals.failed, forKey: .failedTotal)
    try container.encode(totals.bytesUp, forKey: .bytesUp)
    try container.encode(totals.bytesDown, forKey: .bytesDown)
    let failure = totals.lastError.map { Failure(time: $0.time, message: $0.message) }
    try container.encode(failure, forKey: .lastError)
  }
}

struct FrontendStatusBody: Encodable {
  private enum CodingKeys: CodingKey { case state, listen, transport }
  var status: FrontendStatus

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(status.state, forKey: .state)
    try container.encode("\(status.listen)", forKey: .listen)
    try container.encode(status.transport, forKey: .transport)
    try TotalsBody(totals: status.totals).encode(to: encoder)
  }
}

struct TransportStatusBody: Encodable {
  private enum CodingKeys: CodingKey { case health, frontends }
  var status: TransportStatus

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(status.health, forKey: .health)
    try container.encode(status.frontends, forKey: .frontends)
    try TotalsBody(totals: status.totals).encode(to: encoder)
  }
}

/// A config entry with its state beside its keys, under `LiveConfig.statusKey`.
struct EntryBody<Status: Encodable>: Encodable {
  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  var entry: ConfigNode
  var status: Status?

  func encode(to encoder: any Encoder) throws {
    try entry.encode(to: encoder)
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(status, forKey: Key(stringValue: LiveConfig.statusKey))
  }
}

struct SessionBody: Encodable {
  private enum CodingKeys: String, CodingKey {
    case id, state, frontend, transport, member, client, user, target, started, copy
    case ageSeconds = "age_seconds"
    case bytesUp = "bytes_up"
    case bytesDown = "bytes_down"
    case waitingUp = "waiting_up"
    case waitingDown = "waiting_down"
  }

  var session: SessionInfo
  var now: Date
  /// Nil in events, which do not ask event loops.
  var waiting: WaitingBytes?

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(session.id, forKey: .id)
    try container.encode(session.state, forKey: .state)
    try container.encode(session.frontend, forKey: .frontend)
    try container.encode(session.transport, forKey: .transport)
    try container.encode(session.member, forKey: .member)
    try container.encode(session.client?.hostAndPort, forKey: .client)
    try container.encode(session.user, forKey: .user)
    try container.encode(session.target.map { "\($0)" }, forKey: .target)
    try container.encode(session.started, forKey: .started)
    try container.encode(max(0, now.timeIntervalSince(session.started)), forKey: .ageSeconds)
    try container.encode(session.bytesUp, forKey: .bytesUp)
    try container.encode(session.bytesDown, forKey: .bytesDown)
    try container.encode(session.copy, forKey: .copy)
    try container.encodeIfPresent(waiting?.up, forKey: .waitingUp)
    try container.encodeIfPresent(waiting?.down, forKey: .waitingDown)
  }
}

struct SessionsBody: Encodable {
  var sessions: [SessionBody]
  /// How many match, on all pages.
  var total: Int
  var offset: Int
  var limit: Int
}

struct ChangeBody: Encodable {
  private enum CodingKeys: String, CodingKey {
    case generation, origin, changes
    case dryRun = "dry_run"
    case persistedTo = "persisted_to"
  }
  private enum ChangeKeys: CodingKey { case frontends, transports, sections }

  var change: ConfigChange

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(change.generation, forKey: .generation)
    try container.encode(change.origin, forKey: .origin)
    try container.encode(change.isDryRun, forKey: .dryRun)
    try container.encode(change.persistedTo, forKey: .persistedTo)
    var changes = container.nestedContainer(keyedBy: ChangeKeys.self, forKey: .changes)
    try changes.encode(change.difference.frontends, forKey: .frontends)
    try changes.encode(change.difference.transports, forKey: .transports)
    try changes.encode(change.difference.sections, forKey: .sections)
  }
}
