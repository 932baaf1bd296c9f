import MagicalaneCore
import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What every listener on `HOST:PORT` needs, whatever sockets it binds.
extension ListenContext {
  /// The addresses of the host that `listen:` names.
  ///
  /// - Throws: `PluginError` at `listen`.
  func addresses() async throws -> [SocketAddress] {
    guard let (host, port) = address.hostAndPort else {
      throw PluginError("\(address.location) is not HOST:PORT", at: ["listen"])
    }
    do {
      return try await resolver.resolve(Target(host: host, port: port), on: loops.next()).get()
    } catch {
      throw PluginError("cannot listen on \(address): \(error)", at: ["listen"])
    }
  }

  /// Says why an address could not be bound.
  func bindFailure(_ error: any Error) -> PluginError {
    let reason =
      switch (error as? IOError)?.errnoCode {
      case EADDRINUSE: "the address is in use by another process or frontend"
      case EACCES, EPERM: "permission denied; ports below 1024 need the right CAP_NET_BIND_SERVICE"
      case EADDRNOTAVAIL: "this machine does not have that address"
      case EAFNOSUPPORT: "this machine does not have that family of addresses"
      default: "\(error)"
      }
    return PluginError("cannot listen on \(address): \(reason)", at: ["listen"])
  }
}
