import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore

/// What was asked of the listeners and transports of one test.
final class ListenerLog: Sendable {
  @TaskLocal static var current = ListenerLog()
  private let events = NIOLockedValueBox<[String]>([])
  private let binds = NIOLockedValueBox<[String: Int]>([:])

  func add(_ event: String) { events.withLockedValue { $0.append(event) } }

  /// All events so far; they are forgotten by this call.
  func taken() -> [String] {
    events.withLockedValue { events in
      defer { events = [] }
      return events
    }
  }

  /// How often a place was to be bound, this time included.
  func countBind(_ location: String) -> Int {
    binds.withLockedValue { binds in
      binds[location, default: 0] += 1
      return binds[location, default: 0]
    }
  }

  func waits(for event: String) async {
    while !events.withLockedValue({ $0.contains(event) }) { await Task.yield() }
  }
}

struct NotedTransport: Transport {
  struct Options: Decodable, Sendable {
    var broken: Bool?
    var key: Secret?
  }
  typealias Listener = NotedListener
  static let type = "noted"
  let name: String
  let log = ListenerLog.current

  init(options: Options, context: TransportContext) throws {
    if options.broken == true { throw PluginError("is broken", at: ["broken"]) }
    name = context.name
  }

  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    loop.makeFailedFuture(OpenError(.refused, "nobody is there"))
  }

  func shutdown() async { log.add("shutdown \(name)") }
}

struct NotedListener: TransportListener {
  let address: ListenAddress
  let log = ListenerLog.current

  init(options: NoOptions, context: ListenContext) throws {
    address = context.address
  }

  func bind(accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>) async throws -> ListenAddress
  {
    let isBusy = address.location == "/busy" || address.location == "/twice" && log.countBind("/twice") == 2
    if isBusy { throw PluginError("in use", at: ["listen"]) }
    log.add("bind \(address.location)")
    return address
  }

  func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress? {
    guard address.location == "/handed" else { return nil }
    log.add("take \(address.location)")
    return address
  }

  func stopAccepting() async { log.add("stop \(address.location)") }

  func close() async { log.add("close \(address.location)") }
}
