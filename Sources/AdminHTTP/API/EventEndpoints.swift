import FoundationEssentials
import MagicalaneCore
import NIOConcurrencyHelpers
import Synchronization

/// What happens, as it happens (Server-Sent Events).
extension AdminAPI {
  func addEvents(to router: inout Router) {
    router.on("GET", "/v1/events") { request, _ in
      let query = try Query(request, "types")
      _ = try request.preferredType(of: [ServerSentEvent.mediaType])
      let stream = EventStream(
        runtime.events,
        after: firstEvent(request.headers["last-event-id"]),
        types: try AdminAPI.types(query["types"]),
        instance: instance
      )
      return AdminResponse(
        status: 200,
        headers: ["Content-Type": ServerSentEvent.mediaType],
        body: .stream(stream)
      )
    }
  }

  /// Where a stream begins: behind the event that the client had last, with all that is kept where that was of
  /// another run of the program, and with what comes where it had none.
  private func firstEvent(_ last: String?) -> UInt64 {
    let newest = runtime.events.lastID
    guard let last, !last.isEmpty else { return newest }
    let parts = last.split(separator: "-")
    guard parts.count == 2, parts[0] == instance, let id = UInt64(parts[1]) else { return 0 }
    return min(id, newest)
  }

  private static func types(_ text: String?) throws(Problem) -> Set<String>? {
    guard let text else { return nil }
    let types = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    for type in types where !Event.Kind.names.contains(type) {
      let names = Event.Kind.names.joined(separator: ", ")
      throw Problem(400, detail: "query parameter 'types': expected some of \(names), found '\(type)'")
    }
    return Set(types)
  }
}

/// The events of the program as one client takes them. Who is slow misses some and is told how many; nothing
/// is kept for anybody but the log's own few thousand.
final class EventStream: ResponseStream {
  private struct State {
    var last: UInt64
    var pending: ArraySlice<UInt8>
    var isSilent = false
    var wake: (@Sendable () -> Void)?
    var token: EventLog.WakeToken?
  }

  private static let eventsAtOnce = 64
  /// How long a client waits before it connects again, in milliseconds.
  private static let retry = 2000

  private let events: EventLog
  private let types: Set<String>?
  private let instance: String
  private let state: NIOLockedValueBox<State>
  /// Whether the log was asked to wake it. No part of `state`: the log's wake comes from event loops, which
  /// must not wait until a piece is put together.
  private let isWaiting = Atomic(false)

  /// - Parameter types: the names of the events that the client wants; nil for all.
  init(_ events: EventLog, after last: UInt64, types: Set<String>?, instance: String) {
    self.events = events
    self.types = types
    self.instance = instance
    // Something to send at once, so that the client has its head and knows that it is connected.
    let greeting = Array("retry: \(Self.retry)\n\n".utf8)
    state = NIOLockedValueBox(State(last: last, pending: greeting[...]))
  }

  func start(wake: @escaping @Sendable () -> Void) {
    state.withLockedValue { $0.wake = wake }
  }

  func next(max: Int) -> [UInt8]? {
    state.withLockedValue { state in
      while state.pending.isEmpty {
        let (batch, missed) = events.events(after: state.last, limit: Self.eventsAtOnce)
        if let newest = batch.last {
          state.pending = bytes(batch, missed: missed)[...]
          state.last = newest.id
        } else if state.isSilent {
          state.pending = ServerSentEvent.comment[...]
        } else if isWaiting.load(ordering: .acquiring) {
          return []
        } else {
          isWaiting.store(true, ordering: .releasing)
          state.token = events.wake(after: state.last) { [weak self, wake = state.wake] in
            self?.isWaiting.store(false, ordering: .releasing)
            wake?()
          }
          if state.token != nil { return [] }
          isWaiting.store(false, ordering: .releasing)
        }
      }
      state.isSilent = false
      let piece = state.pending.prefix(max)
      state.pending = state.pending.dropFirst(max)
      return Array(piece)
    }
  }

  func heartbeat() {
    state.withLockedValue { $0.isSilent = true }
  }

  func cancel() {
    let token = state.withLockedValue { $0.token }
    if let token { events.cancelWake(token) }
  }

  private func bytes(_ batch: [Event], missed: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    if missed > 0 {
      let data = JSONBody.bytes(["count": missed], pretty: false)
      bytes += ServerSentEvent(event: "events.missed", data: String(decoding: data, as: UTF8.self)).bytes
    }
    for event in batch where types?.contains(event.kind.name) ?? true {
      let data = JSONBody.bytes(EventBody(event: event), pretty: false)
      bytes +=
        ServerSentEvent(
          id: "\(instance)-\(event.id)",
          event: event.kind.name,
          data: String(decoding: data, as: UTF8.self)
        ).bytes
    }
    return bytes
  }
}

extension Event.Kind {
  /// The names of all kinds, in the order of their documentation.
  static let names = [
    "session.opened", "session.closed", "config.applied", "config.refused", "transport.up", "transport.down",
    "transport.decision",
  ]

  /// What clients know it by.
  var name: String {
    switch self {
    case .sessionOpened: "session.opened"
    case .sessionClosed: "session.closed"
    case .configApplied: "config.applied"
    case .configRefused: "config.refused"
    case .transportUp: "transport.up"
    case .transportDown: "transport.down"
    case .transportDecided: "transport.decision"
    }
  }
}

/// The data of one event.
struct EventBody: Encodable {
  private enum CodingKeys: CodingKey { case time, session, reason, change, origin, transport, decision }
  var event: Event

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(event.time, forKey: .time)
    switch event.kind {
    case .sessionOpened(let session):
      try container.encode(SessionBody(session: session, now: event.time), forKey: .session)
    case .sessionClosed(let session, let reason):
      try container.encode(SessionBody(session: session, now: event.time), forKey: .session)
      try container.encode(reason, forKey: .reason)
    case .configApplied(let change):
      try container.encode(ChangeBody(change: change), forKey: .change)
    case .configRefused(let origin, let reason):
      try container.encode(origin, forKey: .origin)
      try container.encode(reason, forKey: .reason)
    case .transportUp(let name):
      try container.encode(name, forKey: .transport)
    case .transportDown(let name, let reason):
      try container.encode(name, forKey: .transport)
      try container.encode(reason, forKey: .reason)
    case .transportDecided(let name, let decision):
      try container.encode(name, forKey: .transport)
      try container.encode(decision, forKey: .decision)
    }
  }
}
