import Logging
import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The UDP sockets of one listener: one on each event loop, for each address of its host.
///
/// The kernel spreads clients over the sockets of a port by their address. When a client's address changes,
/// its packets may arrive at another socket; that one's loop hands them to the connection's. Thread-safe.
final class QUICListeningSockets: Sendable {
  /// What lives on one loop.
  private struct Member {
    let endpoint: QUICEndpoint
    let acceptor: QUICAcceptor
  }

  /// How long `close` waits for bytes that are on their way.
  private static let lingering = TimeAmount.seconds(2)

  private let context: ListenContext
  private let host: Host
  private let port: Int
  private let resetSecret: [UInt8]
  private let members = NIOLockedValueBox<[NIOLoopBound<Member>]>([])
  private let bound: NIOLockedValueBox<ListenAddress>

  /// - Throws: `PluginError` where the address is no `host:port`.
  init(_ context: ListenContext, resetSecret: [UInt8]) throws {
    guard let (host, port) = context.address.hostAndPort else {
      throw PluginError("\(context.address.location) is not HOST:PORT", at: ["listen"])
    }
    self.context = context
    bound = NIOLockedValueBox(context.address)
    self.host = host
    self.port = port
    self.resetSecret = resetSecret
  }

  /// Binds every address of the host, port 0 to the same free port; an address that this machine does not
  /// have is passed over while another one can be bound.
  func bind(_ rules: QUICAcceptor.Rules) async throws -> ListenAddress {
    var boundPort = port
    var absent: (any Error)?
    var isBound = false
    for var address in try await context.addresses() {
      address.port = boundPort
      do {
        boundPort = try await bind(address, rules)
        isBound = true
      } catch let error as IOError where [EADDRNOTAVAIL, EAFNOSUPPORT].contains(error.errnoCode) {
        absent = absent ?? context.bindFailure(error)
      } catch {
        await close()
        throw context.bindFailure(error)
      }
    }
    if let absent, !isBound { throw absent }
    let location = "\(Target(host: host, port: boundPort))"
    let address = ListenAddress(scheme: context.address.scheme, location: location)
    bound.withLockedValue { $0 = address }
    return address
  }

  /// Takes the sockets of another listener on the same address.
  ///
  /// - Returns: nil where that one has none.
  func takeOver(from other: QUICListeningSockets, _ rules: QUICAcceptor.Rules) async -> ListenAddress? {
    guard other.context.address == context.address else { return nil }
    let taken = other.members.withLockedValue { members in
      defer { members = [] }
      return members
    }
    guard !taken.isEmpty else { return nil }
    members.withLockedValue { $0 = taken }
    for member in taken {
      try? await member.eventLoop.submit { member.value.acceptor.follow(rules) }.get()
    }
    let address = other.bound.withLockedValue { $0 }
    bound.withLockedValue { $0 = address }
    return address
  }

  /// Sockets that share a port would also share it with those of another process, and each would get some of
  /// the other's clients. So a socket that does not share is bound first, which fails where anybody has it.
  ///
  /// - Returns: the port.
  private func bind(_ address: SocketAddress, _ rules: QUICAcceptor.Rules) async throws -> Int {
    let loops = context.loops.makeIterator().map { $0 }.prefix(256)
    guard let first = loops.first else { throw PluginError("there is no event loop") }
    let logger = context.logger
    let probe = try await first.flatSubmit {
      UDPSocket.bind(QUICEndpoint(on: first, logger: logger), to: address, isShared: false)
    }.get()
    let bound = probe.localAddress ?? address
    try await probe.close().get()
    var siblings: [NIOLoopBound<Member>] = []
    for (index, loop) in loops.enumerated() {
      siblings.append(try await start(on: loop, index: UInt8(index), at: bound, rules))
    }
    let all = siblings
    for member in all {
      try await member.eventLoop.submit {
        member.value.acceptor.forward = QUICListeningSockets.forward(to: all)
      }.get()
    }
    members.withLockedValue { $0 += all }
    return bound.port ?? port
  }

  private func start(
    on loop: any EventLoop,
    index: UInt8,
    at address: SocketAddress,
    _ rules: QUICAcceptor.Rules
  ) async throws -> NIOLoopBound<Member> {
    let ids = ConnectionIDSource(loop: index, resetSecret: resetSecret)
    let logger = context.logger
    return try await loop.flatSubmit {
      let endpoint = QUICEndpoint(on: loop, logger: logger, metrics: rules.metrics)
      let acceptor = QUICAcceptor(rules, ids: ids, endpoint: endpoint)
      endpoint.stranger = acceptor.take
      endpoint.socketLost = { [unowned endpoint] error in
        logger.warning("A listening UDP socket was lost and is replaced", metadata: ["error": "\(error)"])
        endpoint.replaceSocket { [unowned endpoint] in UDPSocket.bind(endpoint, to: address, isShared: true) }
      }
      let member = NIOLoopBound(Member(endpoint: endpoint, acceptor: acceptor), eventLoop: loop)
      return UDPSocket.bind(endpoint, to: address, isShared: true).map { _ in member }
    }.get()
  }

  private static func forward(
    to members: [NIOLoopBound<Member>]
  ) -> (Int, ByteBuffer, SocketAddress, UInt8) -> Bool {
    { index, bytes, remote, ecn in
      guard members.indices.contains(index) else { return false }
      let member = members[index]
      member.eventLoop.execute { member.value.endpoint.receiveForwarded(bytes, from: remote, ecn: ecn) }
      return true
    }
  }

  func stopAccepting() async {
    for member in members.withLockedValue({ $0 }) {
      try? await member.eventLoop.submit {
        member.value.acceptor.isAccepting = false
        member.value.endpoint.connections.forEach { $0.drain() }
      }.get()
    }
  }

  func close() async {
    await stopAccepting()
    let members = members.withLockedValue { members in
      defer { members = [] }
      return members
    }
    await withTaskGroup(of: Void.self) { group in
      for member in members {
        group.addTask {
          let done = member.eventLoop.flatSubmit {
            // The sockets know each other through this.
            member.value.acceptor.forward = { _, _, _, _ in false }
            return member.value.endpoint.close(within: QUICListeningSockets.lingering)
          }
          try? await done.get()
        }
      }
    }
  }
}
