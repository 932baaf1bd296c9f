/// The connections of a daemon and until when each may go on as it does.
///
/// The library has only an idle time-out, which a client that sends or takes one byte now and then puts off
/// for ever. A deadline here moves only when a whole step is done:
///
/// ```
/// connect ──► request ──► handler ──► response ──► idle ──► request …
///                             └─────► stream: quiet ◄──► sending
/// ```
///
/// A plain value without clock: times in, sockets to shut down out.
struct ConnectionTable {
  typealias Instant = ContinuousClock.Instant
  typealias ID = UInt

  /// What a connection is at.
  enum Phase: Equatable {
    /// The request is not complete.
    case request
    /// The handler is at work, or a stream has nothing to send. Both take the time they need.
    case quiet
    /// The client has to take the response, or a piece of a stream.
    case sending
    /// Kept open for another request.
    case idle
  }

  private struct Entry {
    var socket: Int32
    var phase = Phase.request
    var since: Instant
    var isShutDown = false
  }

  private let limits: HTTPLimits
  private var entries: [ID: Entry] = [:]
  private var lastID: ID = 0

  init(limits: HTTPLimits) {
    self.limits = limits
  }

  /// Connections now.
  var count: Int { entries.count }

  /// A new connection. The socket stays the library's: its number is good until `remove`.
  mutating func add(socket: Int32, now: Instant) -> ID {
    lastID += 1
    entries[lastID] = Entry(socket: socket, since: now)
    return lastID
  }

  /// The connection is about to be closed.
  mutating func remove(_ id: ID) {
    entries[id] = nil
  }

  /// A step is done; the time of the next one starts.
  mutating func enter(_ phase: Phase, _ id: ID, now: Instant) {
    entries[id]?.phase = phase
    entries[id]?.since = now
  }

  /// The request line of a request is there. The first one's time has been running since it connected.
  mutating func begin(_ id: ID, now: Instant) {
    guard entries[id]?.phase != .request else { return }
    enter(.request, id, now: now)
  }

  /// The socket, to look at while no one can close it.
  func socket(of id: ID) -> Int32? { entries[id]?.socket }

  /// Whether the connection has been given up.
  func isShutDown(_ id: ID) -> Bool { entries[id]?.isShutDown ?? true }

  /// Gives the connection up.
  ///
  /// - Returns: The socket to shut down, the first time.
  mutating func shutDown(_ id: ID) -> Int32? {
    guard let entry = entries[id], !entry.isShutDown else { return nil }
    entries[id]?.isShutDown = true
    return entry.socket
  }

  /// Connections that have no complete request.
  var unasked: [ID] {
    entries.filter { $0.value.phase == .request || $0.value.phase == .idle }.map(\.key)
  }

  /// Connections between two requests.
  var idle: [ID] { entries.filter { $0.value.phase == .idle && !$0.value.isShutDown }.map(\.key) }

  /// Connections whose time is up.
  func overdue(now: Instant) -> [ID] {
    entries.filter { !$0.value.isShutDown && isOverdue($0.value, now: now) }.map(\.key)
  }

  private func isOverdue(_ entry: Entry, now: Instant) -> Bool {
    switch entry.phase {
    case .request: now - entry.since >= limits.request
    case .quiet: false
    case .sending: now - entry.since >= limits.response
    case .idle: now - entry.since >= limits.idle
    }
  }
}
