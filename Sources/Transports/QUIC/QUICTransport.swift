import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore

/// Streams of QUIC connections to a tunnel's server: one connection for each event loop, one bidirectional
/// stream for each session.
public struct QUICTransport: TunnelTransport {
  /// The end that accepts.
  public typealias Listener = QUICListener

  /// The keys of its config entry.
  public struct Options: Decodable, Sendable {
    var server: Target
    var tls: TLSClientOptions?
    var congestion: QUICCongestionControl?
    /// Default 30 s.
    var idleTimeout: ConfigDuration?
    /// Keeps the connection alive between sessions too.
    var keepAlive: ConfigDuration?
  }

  /// The name in the config.
  public static let type = "quic"
  /// Each stream waits for its own lost packets alone.
  public static let bearsLoss = true

  /// What the server is told.
  public let credentials: Credentials?
  /// Told of each attempt to reach the server.
  public let health: TransportHealth?
  private let plan: QUICDialer.Plan
  private let loops: [ObjectIdentifier]
  private let dialers = NIOLockedValueBox<[ObjectIdentifier: NIOLoopBound<QUICDialer>]>([:])

  /// How long a shut-down waits for bytes that are on their way.
  private static let lingering = TimeAmount.seconds(2)

  /// - Throws: `PluginError` that names the key, and the file, at fault.
  public init(options: Options, context: TransportContext) throws {
    credentials = context.credentials
    health = context.health
    loops = context.loops.makeIterator().map { ObjectIdentifier($0) }
    var settings = QUICSettings()
    settings.windows = QUICWindows(buffer: context.buffer, memory: context.memory)
    settings.congestion = options.congestion ?? settings.congestion
    try settings.setIdleTimeout(options.idleTimeout)
    settings.keepAlive = try options.keepAlive?.quicNanoseconds("keep_alive")
    plan = QUICDialer.Plan(
      server: options.server,
      resolver: context.resolver,
      credentials: try TLSClientCredentials(
        options: options.tls ?? TLSClientOptions(),
        host: options.server.host,
        directory: context.directory,
        logger: context.logger
      ),
      settings: settings,
      buffer: context.buffer,
      logger: context.logger,
      metrics: QUICMetrics(transport: context.name),
      health: context.health
    )
  }

  /// Opens a stream on the loop's connection, which is made where there is none; waits where the server
  /// allows no more streams for now. See `TunnelTransport`.
  public func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    loop.inEventLoop
      ? dialer(on: loop).open(deadline: deadline)
      : loop.flatSubmit { self.dialer(on: loop).open(deadline: deadline) }
  }

  /// Called on the loop.
  private func dialer(on loop: any EventLoop) -> QUICDialer {
    dialers.withLockedValue { dialers in
      if let known = dialers[ObjectIdentifier(loop)] { return known.value }
      let number = loops.firstIndex(of: ObjectIdentifier(loop)) ?? loops.count
      let dialer = QUICDialer(plan, on: loop, loopNumber: number)
      dialers[ObjectIdentifier(loop)] = NIOLoopBound(dialer, eventLoop: loop)
      return dialer
    }
  }

  /// Closes all connections, once what ended streams left to send has arrived.
  public func shutdown() async {
    let dialers = dialers.withLockedValue { Array($0.values) }
    await withTaskGroup(of: Void.self) { group in
      for dialer in dialers {
        group.addTask {
          let done = dialer.eventLoop.flatSubmit { dialer.value.shutDown(within: QUICTransport.lingering) }
          try? await done.get()
        }
      }
    }
  }
}

extension ConfigDuration {
  /// - Throws: `PluginError` where it is zero, which would mean "never" to some and "at once" to others.
  func quicNanoseconds(_ key: String) throws -> UInt64 {
    guard amount.nanoseconds > 0 else { throw PluginError("\(key) must be more than zero", at: [key]) }
    return UInt64(amount.nanoseconds)
  }
}

extension QUICSettings {
  mutating func setIdleTimeout(_ duration: ConfigDuration?) throws {
    if let duration { idleTimeout = try duration.quicNanoseconds("idle_timeout") }
  }
}
