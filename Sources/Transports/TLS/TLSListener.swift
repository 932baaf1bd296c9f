import MagicalaneCore
import NIOCore

/// Accepts streams over TLS 1.3.
public struct TLSListener: TransportListener, SocketListener {
  /// The keys of its frontend's config entry.
  public struct Options: Decodable, Sendable {
    var tls: TLSServerOptions
  }

  let sockets: ListeningSockets
  private let credentials: TLSServerCredentials
  private let metrics: TLSMetrics

  /// - Throws: `PluginError` that names the key, and the file, at fault.
  public init(options: Options, context: ListenContext) throws {
    sockets = try ListeningSockets(context)
    metrics = TLSMetrics(frontend: context.name)
    credentials = try TLSServerCredentials(options: options.tls, directory: context.directory)
  }

  /// Streams are handed over before their handshake, which runs by itself and fails by `errorCaught`.
  ///
  /// - Throws: `PluginError` that names the address and what is wrong with it.
  public func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    try await sockets.bind(accept: shakingHands(accept))
  }

  /// Takes the sockets of another one, of TLS or TCP.
  public func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress? {
    guard let other = other as? any SocketListener else { return nil }
    return sockets.takeOver(from: other.sockets, accept: shakingHands(accept))
  }

  private func shakingHands(_ accept: @escaping ListeningSockets.Accept) -> ListeningSockets.Accept {
    let (credentials, metrics) = (credentials, metrics)
    return { channel in
      do {
        let session = try TLSSession(
          .server(credentials),
          applicationProtocol: TLSTransport.applicationProtocol
        )
        try channel.pipeline.syncOperations.addHandler(GnuTLSHandler(session, metrics: metrics))
      } catch {
        return channel.eventLoop.makeFailedFuture(error)
      }
      return accept(channel)
    }
  }

  /// Closes the listening sockets; accepted streams go on.
  public func stopAccepting() async {
    await sockets.stopAccepting()
  }

  /// Closes the listening sockets and all accepted streams.
  public func close() async {
    await sockets.close()
  }
}
