import Foundation
import NIOConcurrencyHelpers
import NIOCore

/// Every live session of the program, and the door through which new ones come.
///
/// Safe from any thread. It is asked when a session starts, opens and ends, never per byte.
final class Sessions: Sendable {
  private struct Entry {
    var session: NIOLoopBound<Session>
    var record: SessionRecord
    var frontend: PartID
    var transport: PartID
    /// It tells a client what was counted, and need not be waited for.
    var isReporting = false
  }

  /// Somebody who waits until a set of sessions has ended.
  private struct Waiter {
    var remaining: Set<Session.ID>
    var promise: EventLoopPromise<Void>
  }

  private struct State {
    var live: [Session.ID: Entry] = [:]
    var nextID: Session.ID = 1
    var limit = Int.max
    var isDraining = false
    var waiters: [Waiter] = []
    /// Of ended sessions, by the names of frontends and of transports; live ones are added when somebody asks.
    var frontendTotals: [String: Totals] = [:]
    var transportTotals: [String: Totals] = [:]
  }

  /// What was counted of the legs that clients name.
  let ledgers = PathLedgers()
  let memory: MemoryBudget
  private let events: EventLog
  private let state = NIOLockedValueBox(State())

  /// - Parameters:
  ///   - events: who is told of opened and closed sessions.
  ///   - memory: counts what waits in them.
  init(events: EventLog = EventLog(), memory: MemoryBudget = MemoryBudget()) {
    self.events = events
    self.memory = memory
  }

  /// Most sessions at once; a change holds for new requests.
  func setLimit(_ limit: Int) {
    state.withLockedValue { $0.limit = limit }
  }

  var count: Int { state.withLockedValue { $0.live.count } }

  /// Nil where one more request may be opened, else why not.
  var reasonToRefuse: String? {
    if memory.isUsedUp { return "the memory for streams is used up (limits.memory)" }
    return state.withLockedValue { state in
      if state.isDraining { return "shutting down" }
      return state.live.count > state.limit ? "the limit of \(state.limit) sessions is reached" : nil
    }
  }

  /// Nil where this session may go on as one that tells a client what was counted, else why not.
  func reasonToRefuse(report record: SessionRecord) -> String? {
    if let reasonToRefuse { return reasonToRefuse }
    return state.withLockedValue { state in
      if state.waiters.contains(where: { $0.remaining.contains(record.id) }) { return "shutting down" }
      state.live[record.id]?.isReporting = true
      return nil
    }
  }

  /// A new session on the client's event loop; nil while the program drains.
  func admit(_ client: any Channel, route: Route) -> Session? {
    let address = client.remoteAddress
    return state.withLockedValue { state in
      guard !state.isDraining else { return nil }
      let record = SessionRecord(
        id: state.nextID,
        frontend: route.frontendName,
        transport: route.transportName,
        client: address
      )
      let session = Session(record, client: client, route: route, sessions: self)
      state.live[state.nextID] = Entry(
        session: NIOLoopBound(session, eventLoop: client.eventLoop),
        record: record,
        frontend: route.frontendID,
        transport: route.transportID
      )
      state.nextID += 1
      return session
    }
  }

  /// The streams of a session are about to be joined.
  func opened(_ record: SessionRecord) {
    events.publish(.sessionOpened(record.info))
  }

  /// A session is over.
  func ended(_ record: SessionRecord, _ end: SessionEnd) {
    let info = record.info
    if info.target != nil { events.publish(.sessionClosed(info, reason: "\(end)")) }
    let done = state.withLockedValue { state -> [Waiter] in
      guard state.live.removeValue(forKey: info.id) != nil else { return [] }
      state.frontendTotals[info.frontend, default: Totals()].add(info, end)
      state.transportTotals[info.transport, default: Totals()].add(info, end)
      guard !state.waiters.isEmpty else { return [] }
      for index in state.waiters.indices { state.waiters[index].remaining.remove(info.id) }
      defer { state.waiters.removeAll { $0.remaining.isEmpty } }
      return state.waiters.filter { $0.remaining.isEmpty }
    }
    for waiter in done { waiter.promise.succeed() }
  }

  /// Admits nothing more, and breaks off what has not asked for anything yet.
  func refuseNew() {
    let live = state.withLockedValue { state in
      state.isDraining = true
      return state.live.values.map(\.session)
    }
    for session in live {
      session.eventLoop.execute { session.value.abortUnlessRequested(reason: "draining") }
    }
  }

  /// Waits until the sessions of these parts have ended, of which reports do at once; breaks off what is left when
  /// the time is over.
  ///
  /// - Parameter parts: frontends and transports; nil for all sessions.
  /// - Returns: how many had to be broken off.
  @discardableResult
  func drain(_ parts: Set<PartID>? = nil, within time: TimeAmount, on loop: any EventLoop) async -> Int {
    let promise = loop.makePromise(of: Void.self)
    let draining = beginDrain(parts, promise)
    let deadline = loop.scheduleTask(in: time) { [self] in abort(draining) }
    // The promise only ever succeeds.
    try? await promise.futureResult.get()
    deadline.cancel()
    return (try? await deadline.futureResult.get()) ?? 0
  }

  /// Ends the reports of these parts.
  ///
  /// - Parameter promise: succeeds when all their sessions have ended.
  /// - Returns: the sessions that have not.
  func beginDrain(_ parts: Set<PartID>?, _ promise: EventLoopPromise<Void>) -> Set<Session.ID> {
    let draining = state.withLockedValue { state in
      let matching = state.live.filter { _, entry in
        parts.map { $0.contains(entry.frontend) || $0.contains(entry.transport) } ?? true
      }
      if !matching.isEmpty { state.waiters.append(Waiter(remaining: Set(matching.keys), promise: promise)) }
      return matching
    }
    if draining.isEmpty { promise.succeed() }
    for entry in draining.values where entry.isReporting {
      entry.session.eventLoop.execute { entry.session.value.endReports(reason: "draining") }
    }
    return Set(draining.keys)
  }

  private func abort(_ ids: Set<Session.ID>) -> Int {
    let left = state.withLockedValue { state in ids.compactMap { state.live[$0]?.session } }
    for session in left {
      session.eventLoop.execute { session.value.abort(reason: "the drain time is over") }
    }
    return left.count
  }
}

// MARK: What others may see

extension Sessions {
  /// All live sessions, in no order.
  var live: [SessionInfo] { records.map(\.info) }

  private var records: [SessionRecord] { state.withLockedValue { $0.live.values.map(\.record) } }

  /// One live session.
  func info(_ id: Session.ID) -> SessionInfo? { state.withLockedValue { $0.live[id]?.record }?.info }

  /// What waits in these sessions; asks their event loops.
  func waiting(in ids: some Sequence<Session.ID>) async -> [Session.ID: WaitingBytes] {
    let sessions = state.withLockedValue { state in ids.compactMap { state.live[$0]?.session } }
    let byLoop = Dictionary(grouping: sessions) { ObjectIdentifier($0.eventLoop) }
    var waiting: [Session.ID: WaitingBytes] = [:]
    for sessions in byLoop.values {
      let counted = sessions[0].eventLoop.submit {
        sessions.map { ($0.value.id, $0.value.waiting) }
      }
      for (id, bytes) in (try? await counted.get()) ?? [] { waiting[id] = bytes }
    }
    return waiting
  }

  /// Breaks one session off.
  ///
  /// - Returns: false where there is none of that id.
  func end(_ id: Session.ID, reason: String) -> Bool {
    guard let session = state.withLockedValue({ $0.live[id]?.session }) else { return false }
    session.eventLoop.execute { session.value.abort(reason: reason) }
    return true
  }

  /// What each frontend and each transport carried, by name.
  var totals: (frontends: [String: Totals], transports: [String: Totals]) {
    var (frontends, transports, records) = state.withLockedValue {
      ($0.frontendTotals, $0.transportTotals, $0.live.values.map(\.record))
    }
    for info in records.map(\.info) {
      frontends[info.frontend, default: Totals()].add(live: info)
      transports[info.transport, default: Totals()].add(live: info)
    }
    return (frontends, transports)
  }

  /// Forgets the totals of names that are no more.
  func keepTotals(frontends: Set<String>, transports: Set<String>) {
    state.withLockedValue { state in
      state.frontendTotals = state.frontendTotals.filter { frontends.contains($0.key) }
      state.transportTotals = state.transportTotals.filter { transports.contains($0.key) }
    }
  }
}

extension Totals {
  fileprivate mutating func add(live info: SessionInfo) {
    sessions += 1
    add(bytesOf: info)
  }

  fileprivate mutating func add(_ info: SessionInfo, _ end: SessionEnd) {
    add(bytesOf: info)
    if case .failed = end { failed += 1 }
    if let failure = end.failure { lastError = LastError(time: .now, message: failure) }
  }

  private mutating func add(bytesOf info: SessionInfo) {
    started += 1
    bytesUp &+= info.bytesUp
    bytesDown &+= info.bytesDown
  }
}

/// Tells one built frontend or transport from a later one of the same name.
typealias PartID = UInt64
