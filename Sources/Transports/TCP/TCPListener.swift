import MagicalaneCore
import NIOCore

/// Accepts streams over plain TCP.
public struct TCPListener: TransportListener {
  private let sockets: ListeningSockets

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

  /// Closes the listening sockets; accepted streams go on.
  public func stopAccepting() async {
    await sockets.stopAccepting()
  }

  /// Closes the listening sockets and all accepted streams.
  public func close() async {
    await sockets.close()
  }
}
