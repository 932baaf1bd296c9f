import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The listening sockets of one frontend, one for each address of its host, and the streams that they
/// accepted.
///
/// `[::]` takes IPv4 as well, whatever the system's default: it stands for every interface, and those who
/// want one family alone can say `0.0.0.0` or an address. Thread-safe.
///
/// Sockets can be handed on to another one, which accepts from then on with not a moment in between; streams
/// stay with the one that accepted them.
final class ListeningSockets: Sendable {
  typealias Accept = @Sendable (any Channel) -> EventLoopFuture<Void>

  /// What the sockets listen for; whoever has them sets it.
  ///
  /// The closure is a property and not the box's value itself: a generic box would wrap it in one more thunk each
  /// time that it is read.
  final class Door: Sendable {
    private struct Rule {
      var accept: Accept
    }
    private let rule: NIOLockedValueBox<Rule>

    init(_ accept: @escaping Accept) {
      rule = NIOLockedValueBox(Rule(accept: accept))
    }

    var accept: Accept {
      get { rule.withLockedValue { $0.accept } }
      set { rule.withLockedValue { $0.accept = newValue } }
    }
  }

  private struct Bound {
    var channels: [any Channel]
    var door: Door
    var address: ListenAddress
  }

  private struct Open {
    var bound: Bound?
    var accepted: [ObjectIdentifier: any Channel] = [:]
    var isClosed = false
  }

  private let context: ListenContext
  private let host: Host
  private let port: Int
  private let open = NIOLockedValueBox(Open())

  /// - Throws: `PluginError` where the address is no `host:port`.
  init(_ context: ListenContext) throws {
    guard let (host, port) = context.address.hostAndPort else {
      throw PluginError("\(context.address.location) is not HOST:PORT", at: ["listen"])
    }
    self.context = context
    self.host = host
    self.port = port
  }

  /// Binds every address of the host, port 0 to the same free port; see `TransportListener.bind`.
  ///
  /// An address that this machine does not have is passed over while another one can be bound: `localhost`
  /// names `::1` on machines without IPv6 too.
  func bind(accept: @escaping Accept) async throws -> ListenAddress {
    let door = Door(tracking(accept))
    let bootstrap = TCPSocket.server(loops: context.loops) { channel in door.accept(channel) }
    var channels: [any Channel] = []
    var boundPort = port
    var absent: (any Error)?
    for address in try await context.addresses() {
      do {
        let channel = try await bind(bootstrap, to: address, port: boundPort)
        boundPort = channel.localAddress?.port ?? boundPort
        channels.append(channel)
      } catch let error as IOError where [EADDRNOTAVAIL, EAFNOSUPPORT].contains(error.errnoCode) {
        absent = absent ?? context.bindFailure(error)
      } catch {
        for channel in channels { try? await channel.close().get() }
        throw context.bindFailure(error)
      }
    }
    if let absent, channels.isEmpty { throw absent }
    let address = address(port: boundPort)
    let bound = Bound(channels: channels, door: door, address: address)
    open.withLockedValue { $0.bound = bound }
    return address
  }

  /// Takes the sockets of another one for the same host and port, and accepts on them from now on.
  ///
  /// - Returns: the address as bound; nil where the other one has no such sockets.
  func takeOver(from other: ListeningSockets, accept: @escaping Accept) -> ListenAddress? {
    guard other.host == host, other.port == port else { return nil }
    let taken = other.open.withLockedValue { open in
      defer { open.bound = nil }
      return open.bound
    }
    guard var taken else { return nil }
    taken.door.accept = tracking(accept)
    taken.address = address(port: taken.address.hostAndPort?.port ?? port)
    open.withLockedValue { [taken] in $0.bound = taken }
    return taken.address
  }

  private func address(port: Int) -> ListenAddress {
    ListenAddress(scheme: context.address.scheme, location: "\(Target(host: host, port: port))")
  }

  private func tracking(_ accept: @escaping Accept) -> Accept {
    let socket = TCPSocket(buffer: context.buffer, memory: context.memory)
    return { channel in
      do {
        try socket.setUp(channel)
      } catch {
        return channel.eventLoop.makeFailedFuture(error)
      }
      self.track(channel)
      return accept(channel)
    }
  }

  private func bind(
    _ bootstrap: ServerBootstrap,
    to address: SocketAddress,
    port: Int
  ) async throws -> any Channel {
    var address = address
    address.port = port
    guard case .v6 = address else { return try await bootstrap.bind(to: address).get() }
    let both = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
    let only: SocketOptionValue = IPAddress(address)?.isUnspecified == true ? 0 : 1
    return try await bootstrap.serverChannelOption(both, value: only).bind(to: address).get()
  }

  /// Closes the listening sockets; the kernel resets what waits in their queues.
  func stopAccepting() async {
    let bound = open.withLockedValue { open in
      defer { open.bound = nil }
      return open.bound
    }
    for channel in bound?.channels ?? [] { try? await channel.close().get() }
  }

  /// Closes the accepted streams too, and any that is just being accepted.
  func close() async {
    await stopAccepting()
    let accepted = open.withLockedValue { open in
      open.isClosed = true
      return Array(open.accepted.values)
    }
    for channel in accepted { channel.close(promise: nil) }
    for channel in accepted { try? await channel.closeFuture.get() }
  }

  private func track(_ channel: any Channel) {
    let id = ObjectIdentifier(channel)
    let isClosed = open.withLockedValue { open in
      open.accepted[id] = channel
      return open.isClosed
    }
    channel.closeFuture.whenComplete { _ in
      self.open.withLockedValue { _ = $0.accepted.removeValue(forKey: id) }
    }
    if isClosed { channel.close(promise: nil) }
  }
}
