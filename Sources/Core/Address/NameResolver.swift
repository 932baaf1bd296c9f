import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Resolves names to addresses on threads of its own, in the order in which RFC 8305 §4 tries them.
///
/// `getaddrinfo` blocks for as long as the system's resolver likes, so a name that never resolves holds one
/// thread; sessions that ask for the same name meanwhile share that one look-up.
public final class NameResolver: Sendable {
  private let threads: NIOThreadPool
  private let lookup: @Sendable (String) throws -> [IPAddress]
  private let running = NIOLockedValueBox<[String: [EventLoopPromise<[IPAddress]>]]>([:])

  /// - Parameter threads: how many names can be looked up at once.
  public convenience init(threads: Int = 32) {
    self.init(threads: threads, lookup: systemLookup)
  }

  /// - Parameter lookup: what is asked instead of the system; it may block and throws `OpenError`.
  init(threads: Int, lookup: @escaping @Sendable (String) throws -> [IPAddress]) {
    self.threads = NIOThreadPool(numberOfThreads: threads)
    self.lookup = lookup
    self.threads.start()
  }

  deinit {
    threads.shutdownGracefully { _ in }
  }

  /// The addresses of `target` that `policy` permits: families in turn, IPv6 first.
  ///
  /// An address needs no thread. Fails with `OpenError`: `.nameNotResolved`, or `.notAllowed` where the
  /// policy left nothing. It may stay pending for long; the caller holds the clock.
  public func resolve(
    _ target: Target,
    policy: AddressPolicy = .unrestricted,
    on loop: any EventLoop
  ) -> EventLoopFuture<[SocketAddress]> {
    switch target.host {
    case .address(let address):
      return loop.makeCompletedFuture { try permitted([address], target, policy) }
    case .name(let name):
      return addresses(of: name.lowercased(), on: loop).flatMapThrowing { [self] in
        try permitted(interleaved($0), target, policy)
      }
    }
  }

  private func permitted(_ found: [IPAddress], _ target: Target, _ policy: AddressPolicy) throws
    -> [SocketAddress]
  {
    let allowed = found.map { $0.socketAddress(port: target.port) }.filter(policy.permits)
    guard !allowed.isEmpty else { throw Self.notPermitted(target) }
    return allowed
  }

  /// What a policy that left no address answers.
  static func notPermitted(_ target: Target) -> OpenError {
    OpenError(.notAllowed, "\(target) is local to this host, which requests from other hosts may not reach")
  }

  private func addresses(of name: String, on loop: any EventLoop) -> EventLoopFuture<[IPAddress]> {
    let promise = loop.makePromise(of: [IPAddress].self)
    let isFirst = running.withLockedValue { running in
      running[name, default: []].append(promise)
      return running[name]?.count == 1
    }
    if isFirst {
      threads.submit { [self] state in
        let result = Result {
          guard state == .active else { throw OpenError(.unavailable, "the resolver is shutting down") }
          return try lookup(name)
        }
        let waiting = running.withLockedValue { $0.removeValue(forKey: name) } ?? []
        for promise in waiting { promise.completeWith(result) }
      }
    }
    return promise.futureResult
  }
}

/// IPv6 and IPv4 in turn, each family in the order given (RFC 8305 §4).
private func interleaved(_ addresses: [IPAddress]) -> [IPAddress] {
  let six = addresses.filter { if case .v6 = $0 { true } else { false } }
  let four = addresses.filter { if case .v4 = $0 { true } else { false } }
  let pairs = zip(six, four).flatMap { [$0, $1] }
  return pairs + six.dropFirst(four.count) + four.dropFirst(six.count)
}
