import Logging
import NIOCore

/// What the sessions of one frontend are made with: its protocol, where its requests go, and its limits.
///
/// A value that each new session copies, so that a change of the config reaches new sessions and leaves
/// running ones alone.
struct Route: Sendable {
  var frontend: any Frontend
  var frontendName: String
  var frontendID: PartID
  var transport: any Transport
  /// The same transport, where it chooses between others.
  var choosing: (any ChoosingTransport)?
  var transportName: String
  var transportID: PartID
  var allowsLocalTargets: Bool
  /// The size of the pipes through which the kernel may move a session's bytes; nil where it may not, because
  /// one of the two streams is no plain socket.
  var splicePipe: Int?
  /// Listeners that requests from other hosts may not reach.
  var reserved: [SocketAddress]
  var connectTimeout: TimeAmount
  var handshakeTimeout: TimeAmount
  var idleTimeout: TimeAmount
  var metrics: SessionMetrics
  var logger: Logger
}

extension Route {
  /// Which addresses a request on this stream may reach.
  func policy(for client: any Channel) -> AddressPolicy {
    AddressPolicy(allowsLocal: allowsLocalTargets || client.comesFromThisHost, reserved: reserved)
  }
}

extension Channel {
  /// Whether the peer is on this host: over loopback, over a Unix-domain socket, or from an address to itself.
  fileprivate var comesFromThisHost: Bool {
    guard let remoteAddress else { return false }
    guard let remote = IPAddress(remoteAddress) else { return true }
    let local = localAddress.flatMap(IPAddress.init)
    return remote.isLoopback || remote.unmapped == local?.unmapped
  }
}
