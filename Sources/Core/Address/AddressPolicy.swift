import NIOCore

/// Which resolved addresses a request may reach.
///
/// It is asked about addresses, never about names: a name can resolve to loopback as well, and may do so
/// only at the second look.
public struct AddressPolicy: Sendable {
  /// False for a request that came from another host to a frontend without `allow_local_targets`.
  public var allowsLocal: Bool
  /// Listeners that no such request may reach, wherever they are bound: the admin API.
  public var reserved: [SocketAddress]

  /// A policy made by hand.
  public init(allowsLocal: Bool, reserved: [SocketAddress] = []) {
    self.allowsLocal = allowsLocal
    self.reserved = reserved
  }

  /// Everything is allowed: for requests from this host, and for a transport's own server.
  public static let unrestricted = AddressPolicy(allowsLocal: true)

  /// Whether a connection to `address` may be opened.
  public func permits(_ address: SocketAddress) -> Bool {
    if allowsLocal { return true }
    guard let ip = IPAddress(address), !ip.isLoopback, !ip.isLinkLocal else { return false }
    return !reserved.contains { covers($0, ip, port: address.port) }
  }

  /// Whether a name or address may be asked for at all, before anything is resolved.
  ///
  /// A tunnel's server resolves names itself and sees a request from this host; what is known here to be
  /// local must stop here.
  public func permits(_ target: Target) -> Bool {
    if allowsLocal { return true }
    switch target.host {
    case .address(let ip):
      return permits(ip.socketAddress(port: target.port))
    case .name(let name):
      let bare = (name.hasSuffix(".") ? String(name.dropLast()) : name).lowercased()
      return bare != "localhost" && !bare.hasSuffix(".localhost")
    }
  }

  private func covers(_ listener: SocketAddress, _ ip: IPAddress, port: Int?) -> Bool {
    guard let bound = IPAddress(listener), listener.port == port else { return false }
    return bound.isUnspecified || bound.unmapped == ip.unmapped
  }
}
