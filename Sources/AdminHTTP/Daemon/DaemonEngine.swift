import CMicrohttpd
import Dispatch
import Logging
import NIOConcurrencyHelpers

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What runs behind `HTTPDaemon`: the library's daemon, and everything its callbacks and the program share.
///
/// Three kinds of threads meet here. The library's own thread runs all callbacks. `queue` accepts, looks at
/// deadlines and carries wakes. Handlers run as tasks. The lock is held for moments only; the library's own
/// lock may be taken within it, never the other way round, since the library calls back without its lock.
final class DaemonEngine: @unchecked Sendable {  // the fields say what guards them
  typealias Handler = @Sendable (AdminRequest) async -> AdminResponse
  typealias Admission = @Sendable (AdminRequest) -> AdminResponse?

  let limits: HTTPLimits
  let logger: Logger
  let admit: Admission
  /// Accepts, sweeps and wakes.
  let queue = DispatchQueue(label: "magicalane.admin")

  private let lock = NIOLock()
  // Under the lock.
  var connections: ConnectionTable
  private(set) var isDrainingLocked = false
  private(set) var isHalted = false
  private var exchanges: [ObjectIdentifier: Exchange] = [:]
  private var currentHandler: Handler?
  private var handedOver = 0
  private var whenQuiet: DispatchSemaphore?

  // The library's thread alone.
  private var bodyBytes = 0

  // The queue alone, but for start and stop.
  private var doors: [ListeningDoor] = []
  private var lastHeartbeat = ContinuousClock.now
  private var timer: (any DispatchSourceTimer)?

  /// Owned here; freed in deinit, after the daemon.
  private let callbacks = UnsafeMutablePointer<cmicrohttpd_callbacks>.allocate(capacity: 1)
  /// Owned here from `start` to `stop`, which runs on `stopping`.
  private var daemon: OpaquePointer?
  private let stopping = DispatchQueue(label: "magicalane.admin.stop")

  init(limits: HTTPLimits, logger: Logger, admit: @escaping Admission, handler: @escaping Handler) {
    var limits = limits
    limits.connections = min(limits.connections, Self.share(ofOpenFiles: 4))
    self.limits = limits
    self.logger = logger
    self.admit = admit
    currentHandler = handler
    connections = ConnectionTable(limits: limits)
    callbacks.initialize(to: cmicrohttpd_callbacks())
  }

  deinit {
    callbacks.deallocate()
  }

  /// Clients of the admin API must not take the file descriptors that sessions need.
  private static func share(ofOpenFiles divisor: UInt) -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
    return Int(clamping: max(1, limit.rlim_cur / rlim_t(divisor)))
  }

  // MARK: Start and stop

  /// Starts the library's thread and opens the doors.
  func start(_ sockets: [AdminSocket]) throws {
    // The engine outlives the daemon: who started it stops it before letting go.
    callbacks.pointee = cmicrohttpd_callbacks(owner: Unmanaged.passUnretained(self).toOpaque())
    // The library's limit is a second line: the doors close before it.
    let most = UInt32(clamping: limits.connections + ListeningDoor.batch)
    let backstop = UInt32(clamping: (limits.idle + limits.response).components.seconds + 1)
    guard let daemon = cmicrohttpd_start(callbacks, most, limits.connectionMemory, backstop) else {
      throw HTTPDaemonError(reason: "libmicrohttpd does not start", errno: errno)
    }
    self.daemon = daemon
    doors = sockets.map { ListeningDoor($0, engine: self) }
    for door in doors { door.open() }
    startTimer()
  }

  private func startTimer() {
    let timer = DispatchSource.makeTimerSource(queue: queue)
    let interval = Int(limits.sweep / .milliseconds(1))
    timer.schedule(deadline: .now() + .milliseconds(interval), repeating: .milliseconds(interval))
    timer.setEventHandler { [weak self] in self?.sweep() }
    timer.resume()
    self.timer = timer
  }

  /// Ends the daemon; `done` comes when its thread is gone. A second call waits for the first.
  ///
  /// It waits for up to `grace`, on a queue of its own: the global ones run the handlers too.
  func stop(grace: Duration, done: @escaping @Sendable () -> Void = {}) {
    stopping.async {
      self.stopOnce(grace: grace)
      done()
    }
  }

  private func stopOnce(grace: Duration) {
    guard let daemon else { return }
    let closed = queue.sync { closeDoors() }
    closed.wait()
    drain(grace: grace)
    queue.sync { timer?.cancel() }
    halt()
    MHD_stop_daemon(daemon)
    self.daemon = nil
  }

  private func closeDoors() -> DispatchGroup {
    let group = DispatchGroup()
    for door in doors { door.close(group) }
    doors = []
    return group
  }

  /// Ends streams, lets what is being answered finish, and takes nothing new: requests that are not complete
  /// would only be waited for.
  private func drain(grace: Duration) {
    let quiet = DispatchSemaphore(value: 0)
    let isQuiet = locked {
      isDrainingLocked = true
      for id in connections.unasked { cut(id) }
      for exchange in exchanges.values where exchange.isStream { exchange.resume() }
      whenQuiet = quiet
      return exchanges.isEmpty
    }
    guard !isQuiet else { return }
    _ = quiet.wait(timeout: .now() + .milliseconds(Int(grace / .milliseconds(1))))
  }

  /// From here on nothing is suspended, and nothing that is not suspended is touched.
  private func halt() {
    locked {
      isHalted = true
      for exchange in exchanges.values { exchange.resume() }
      currentHandler = nil
    }
  }

  // MARK: Shared state

  /// Runs with the lock held.
  func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
    try lock.withLock(body)
  }

  var isDraining: Bool { locked { isDrainingLocked } }
  var handler: Handler? { locked { currentHandler } }

  /// The connection is at its next step.
  func enter(_ phase: ConnectionTable.Phase, _ id: ConnectionTable.ID) {
    locked { connections.enter(phase, id, now: .now) }
  }

  /// Whether the client came over a Unix-domain socket.
  func isLocalSocket(_ id: ConnectionTable.ID) -> Bool {
    locked {
      guard let socket = connections.socket(of: id) else { return false }
      var family: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_UNIX
    }
  }

  /// Takes from the share of all bodies; on the library's thread.
  func reserve(_ count: Int) -> Bool {
    guard bodyBytes + count <= limits.bodies else { return false }
    bodyBytes += count
    return true
  }

  /// Gives back; on the library's thread.
  func release(_ count: Int) {
    bodyBytes -= count
  }

  // MARK: Connections

  /// Whether there is room for one more.
  var hasRoom: Bool {
    locked { connections.count + handedOver < limits.connections }
  }

  /// Gives an accepted socket to the library, which owns and closes it from here on; on the queue.
  func handOver(_ socket: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) {
    guard let daemon else {
      close(socket)
      return
    }
    locked { handedOver += 1 }
    if MHD_add_connection(daemon, socket, address, length) != .YES { locked { handedOver -= 1 } }
  }

  func opened(_ connection: OpaquePointer) -> ConnectionTable.ID {
    locked {
      handedOver -= 1
      return connections.add(socket: cmicrohttpd_socket(connection), now: .now)
    }
  }

  /// The library is about to close the socket; what holds the lock before this still finds it open.
  func closed(_ id: ConnectionTable.ID) {
    locked { connections.remove(id) }
    queue.async { [weak self] in
      for door in self?.doors ?? [] { door.wakeUp() }
    }
  }

  func began(_ exchange: Exchange) {
    locked {
      connections.begin(exchange.connectionID, now: .now)
      exchanges[ObjectIdentifier(exchange)] = exchange
    }
  }

  func finished(_ exchange: Exchange) {
    exchange.finish()
    locked {
      connections.enter(.idle, exchange.connectionID, now: .now)
      exchanges[ObjectIdentifier(exchange)] = nil
      if exchanges.isEmpty { whenQuiet?.signal() }
    }
  }

  // MARK: Deadlines

  private func sweep() {
    locked {
      let streams = exchanges.values.filter(\.isStream)
      for id in connections.overdue(now: .now) + gone(among: connections.idle) { cut(id) }
      let goneStreams = gone(among: streams.map(\.connectionID))
      for exchange in streams where goneStreams.contains(exchange.connectionID) {
        cut(exchange.connectionID)
        exchange.resume()
      }
    }
    guard ContinuousClock.now - lastHeartbeat >= limits.heartbeat else { return }
    lastHeartbeat = .now
    let all = locked { exchanges.values.filter(\.isStream) }
    for exchange in all { exchange.heartbeat() }
  }

  /// Ends a connection from this side; the library sees the end and closes. Under the lock.
  private func cut(_ id: ConnectionTable.ID) {
    guard let socket = connections.shutDown(id) else { return }
    shutdown(socket, Int32(SHUT_RDWR))
    logger.debug("admin client cut off", metadata: ["connection": "\(id)"])
  }

  /// Whether the client has ended its side, so that no other request can follow.
  func hasEnded(_ id: ConnectionTable.ID) -> Bool {
    locked { !gone(among: [id]).isEmpty }
  }

  /// Those whose client has ended its side. While a stream is quiet the library does not look at its socket, and
  /// an end that came together with a request it does not see again. Under the lock.
  private func gone(among ids: [ConnectionTable.ID]) -> Set<ConnectionTable.ID> {
    var polls = ids.map { id in
      pollfd(fd: connections.socket(of: id) ?? -1, events: Int16(CMICROHTTPD_POLLRDHUP), revents: 0)
    }
    guard !polls.isEmpty, poll(&polls, nfds_t(polls.count), 0) > 0 else { return [] }
    return Set(zip(ids, polls).filter { $1.revents != 0 }.map(\.0))
  }
}

/// Why a daemon did not start.
struct HTTPDaemonError: Error, CustomStringConvertible {
  var reason: String
  var errno: Int32

  var description: String { "\(reason): \(String(cString: strerror(errno)))" }
}
