import MagicalaneCore
import NIOCore

/// Accepts streams over QUIC.
public struct QUICListener: TransportListener {
  /// The keys of its frontend's config entry.
  public struct Options: Decodable, Sendable {
    var tls: TLSServerOptions
    var congestion: QUICCongestionControl?
    /// Streams that one client may have open at once, on one connection.
    var maxStreams: Int?
    var retry: QUICRetryPolicy?
    /// Without a packet for so long a connection is given up; default 30 s.
    var quicIdleTimeout: ConfigDuration?
    /// Most connections at once.
    var connections: Int?
  }

  private static let defaultMaxStreams = 4096
  private static let defaultConnections = 65_536

  private let sockets: QUICListeningSockets
  private let credentials: TLSServerCredentials
  private let settings: QUICSettings
  private let retry: QUICRetryPolicy
  private let maxConnections: Int
  private let buffer: Int
  private let metrics: QUICMetrics

  /// - Throws: `PluginError` that names the key, and the file, at fault.
  public init(options: Options, context: ListenContext) throws {
    credentials = try TLSServerCredentials(options: options.tls, directory: context.directory)
    sockets = try QUICListeningSockets(
      context,
      resetSecret: StatelessReset.secret(options.tls, context.directory)
    )
    var settings = QUICSettings()
    settings.windows = QUICWindows(buffer: context.buffer, memory: context.memory)
    settings.congestion = options.congestion ?? settings.congestion
    settings.maxStreams = try QUICListener.atLeastOne(
      options.maxStreams ?? QUICListener.defaultMaxStreams,
      "max_streams"
    )
    if let idle = options.quicIdleTimeout {
      settings.idleTimeout = try idle.quicNanoseconds("quic_idle_timeout")
    }
    self.settings = settings
    retry = options.retry ?? .auto
    maxConnections = try QUICListener.atLeastOne(
      options.connections ?? QUICListener.defaultConnections,
      "connections"
    )
    buffer = context.buffer
    metrics = QUICMetrics(frontend: context.name)
  }

  private static func atLeastOne(_ value: Int, _ key: String) throws -> Int {
    guard value > 0 else { throw PluginError("\(key) must be at least 1", at: [key]) }
    return value
  }

  /// Binds one socket per event loop to each address of the host.
  ///
  /// - Throws: `PluginError` that names the address and what is wrong with it.
  public func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    try await sockets.bind(rules(accept))
  }

  /// Takes the sockets of another one, whose connections live on: new streams on them go by these options, but
  /// for what was agreed in the handshake.
  public func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress? {
    guard let other = other as? QUICListener else { return nil }
    return await sockets.takeOver(from: other.sockets, rules(accept))
  }

  private func rules(
    _ accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) -> QUICAcceptor.Rules {
    QUICAcceptor.Rules(
      credentials: credentials,
      settings: settings,
      retry: retry,
      maxConnections: maxConnections,
      buffer: buffer,
      tokens: AddressTokens(),
      metrics: metrics,
      accept: accept
    )
  }

  /// Takes no more connections and no more streams; those that are open go on.
  public func stopAccepting() async {
    await sockets.stopAccepting()
  }

  /// Closes all connections, once what ended streams left to send has arrived.
  public func close() async {
    await sockets.close()
  }
}
