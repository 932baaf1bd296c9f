import NIOConcurrencyHelpers
import NIOCore

/// Every live session of the program, and the door through which new ones come.
///
/// Safe from any thread. It is asked when a session starts, opens and ends, never per byte.
final class Sessions: Sendable {
  private struct Entry {
    var session: NIOLoopBound<Session>
    var frontend: PartID
    var transport: PartID
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
  }

  private let state = NIOLockedValueBox(State())

  /// Most sessions at once; a change holds for new requests.
  func setLimit(_ limit: Int) {
    state.withLockedValue { $0.limit = limit }
  }

  var count: Int { state.withLockedValue { $0.live.count } }

  /// Nil where one more request may be opened, else why not.
  var reasonToRefuse: String? {
    state.withLockedValue { state in
      if state.isDraining { return "shutting down" }
      return state.live.count > state.limit ? "the limit of \(state.limit) sessions is reached" : nil
    }
  }

  /// A new session on the client's event loop; nil while the program drains.
  func admit(_ client: any Channel, route: Route) -> Session? {
    state.withLockedValue { state in
      guard !state.isDraining else { return nil }
      let session = Session(id: state.nextID, client: client, route: route, sessions: self)
      let bound = NIOLoopBound(session, eventLoop: client.eventLoop)
      state.live[state.nextID] = Entry(
        session: bound,
        frontend: route.frontendID,
        transport: route.transportID
      )
      state.nextID += 1
      return session
    }
  }

  func remove(_ id: Session.ID) {
    let done = state.withLockedValue { state -> [Waiter] in
      state.live[id] = nil
      guard !state.waiters.isEmpty else { return [] }
      for index in state.waiters.indices { state.waiters[index].remaining.remove(id) }
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

  /// Waits until the sessions of these parts have ended; breaks off what is left when the time is over.
  ///
  /// - Parameter parts: frontends and transports; nil for all sessions.
  /// - Returns: how many had to be broken off.
  @discardableResult
  func drain(_ parts: Set<PartID>? = nil, within time: TimeAmount, on loop: any EventLoop) async -> Int {
    let promise = loop.makePromise(of: Void.self)
    let draining = state.withLockedValue { state in
      let matching = state.live.filter { _, entry in
        parts.map { $0.contains(entry.frontend) || $0.contains(entry.transport) } ?? true
      }
      if !matching.isEmpty { state.waiters.append(Waiter(remaining: Set(matching.keys), promise: promise)) }
      return matching
    }
    if draining.isEmpty { promise.succeed() }
    let deadline = loop.scheduleTask(in: time) { [self] in abort(Set(draining.keys)) }
    // The promise only ever succeeds.
    try? await promise.futureResult.get()
    deadline.cancel()
    return (try? await deadline.futureResult.get()) ?? 0
  }

  private func abort(_ ids: Set<Session.ID>) -> Int {
    let left = state.withLockedValue { state in ids.compactMap { state.live[$0]?.session } }
    for session in left {
      session.eventLoop.execute { session.value.abort(reason: "the drain time is over") }
    }
    return left.count
  }
}

/// Tells one built frontend or transport from a later one of the same name.
typealias PartID = UInt64
