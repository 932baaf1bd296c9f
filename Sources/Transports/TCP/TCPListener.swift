import MagicalaneCore
import NIOCore

/// Accepts streams over plain TCP.
public struct TCPListener: TransportListener, SocketListener {
  let sockets: ListeningSockets
  /// Nothing of ours is in their pipelines.
  public var yieldsPlainSockets: Bool { true }

  /// - Throws: `PluginError` where the address is no `host:port`.
  public init(options: NoOptions, context: ListenContext) throws {
    sockets = try ListeningSockets(context)
  }

  /// - Throws: `PluginError` that names the address and what is wrong with it.
  public func bind(
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async throws -> ListenAddress {
    try await sockets.bind(accept: accept)
  }

  /// Takes the sockets of another one, of TCP or TLS.
  public func takeOver(
    from other: any TransportListener,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) async -> ListenAddress? {
    guard let other = other as? any SocketListener else { return nil }
    return sockets.takeOver(from: other.sockets, accept: accept)
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

/// A listener whose streams come from TCP sockets, which it can hand on to another such one.
protocol SocketListener: TransportListener {
  var sockets: ListeningSockets { get }
}
