import NIOCore

/// Tries addresses one after the other, each a little after the one before, and takes the first that answers
/// (RFC 8305 §5, "Happy Eyeballs").
///
/// A failure starts the next attempt at once. Attempts that answer too late are closed.
final class AddressRace {
  /// The wait between two attempts: the value that RFC 8305 §5 recommends.
  static let attemptDelay = TimeAmount.milliseconds(250)

  private let loop: any EventLoop
  private let attempt: (SocketAddress) -> EventLoopFuture<any Channel>
  private let promise: EventLoopPromise<any Channel>
  private var untried: ArraySlice<SocketAddress>
  private var running = 0
  private var isDecided = false
  private var firstError: (any Error)?
  private var nextAttempt: Scheduled<Void>?
  private var deadline: Scheduled<Void>?

  private init(
    _ addresses: [SocketAddress],
    on loop: any EventLoop,
    attempt: @escaping (SocketAddress) -> EventLoopFuture<any Channel>
  ) {
    self.loop = loop
    self.attempt = attempt
    self.promise = loop.makePromise(of: (any Channel).self)
    self.untried = addresses[...]
  }

  /// - Parameter attempt: called on `loop`; its future may complete on any loop.
  static func run(
    _ addresses: [SocketAddress],
    deadline: NIODeadline,
    on loop: any EventLoop,
    attempt: @escaping @Sendable (SocketAddress) -> EventLoopFuture<any Channel>
  ) -> EventLoopFuture<any Channel> {
    loop.flatSubmit {
      let race = AddressRace(addresses, on: loop, attempt: attempt)
      race.start(deadline: deadline)
      return race.promise.futureResult
    }
  }

  private func start(deadline: NIODeadline) {
    self.deadline = loop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.decide(.failure(self.firstError ?? OpenError(.timedOut, "no address answered in time")))
    }
    tryNext()
  }

  private func tryNext() {
    nextAttempt?.cancel()
    guard !isDecided, let address = untried.popFirst() else { return }
    running += 1
    attempt(address).hop(to: loop).assumeIsolated().whenComplete { self.finished($0) }
    if !untried.isEmpty {
      nextAttempt = loop.assumeIsolated().scheduleTask(in: Self.attemptDelay) { self.tryNext() }
    }
  }

  private func finished(_ result: Result<any Channel, any Error>) {
    running -= 1
    switch result {
    case .success(let channel) where isDecided: channel.close(promise: nil)
    case .success: decide(result)
    case .failure(let error):
      firstError = firstError ?? error
      if !untried.isEmpty {
        tryNext()
      } else if running == 0 {
        decide(.failure(firstError ?? error))
      }
    }
  }

  private func decide(_ result: Result<any Channel, any Error>) {
    guard !isDecided else { return }
    isDecided = true
    nextAttempt?.cancel()
    deadline?.cancel()
    promise.completeWith(result.mapError(OpenError.init))
  }
}

extension NameResolver {
  /// Resolves the target and opens a channel to the first of its permitted addresses that answers. Where none
  /// does, what was known of the name is forgotten.
  ///
  /// - Parameter attempt: connects to one address, and fails at `deadline` at the latest; called on `loop`, or
  ///   by the caller's thread where the target is an address.
  /// - Returns: fails with `OpenError`, at `deadline` at the latest.
  public func open(
    _ target: Target,
    policy: AddressPolicy = .unrestricted,
    deadline: NIODeadline,
    on loop: any EventLoop,
    attempt: @escaping @Sendable (SocketAddress) -> EventLoopFuture<any Channel>
  ) -> EventLoopFuture<any Channel> {
    switch target.host {
    case .address(let address):
      return openAddress(address.socketAddress(port: target.port), target, policy, loop, attempt)
    case .name(let written):
      let name = written.lowercased()
      return answer(to: name, by: deadline, on: loop).flatMap { answer in
        let addresses: [SocketAddress]
        do {
          addresses = try NameResolver.permitted(answer.result.get(), target, policy)
        } catch {
          return loop.makeFailedFuture(error)
        }
        let race = AddressRace.run(addresses, deadline: deadline, on: loop, attempt: attempt)
        race.whenFailure { _ in self.drop(name, answer) }
        return race
      }
    }
  }

  /// One address needs no resolver and no race; the attempt keeps the deadline.
  private func openAddress(
    _ address: SocketAddress,
    _ target: Target,
    _ policy: AddressPolicy,
    _ loop: any EventLoop,
    _ attempt: @escaping @Sendable (SocketAddress) -> EventLoopFuture<any Channel>
  ) -> EventLoopFuture<any Channel> {
    guard policy.permits(address) else { return loop.makeFailedFuture(NameResolver.notPermitted(target)) }
    return attempt(address).hop(to: loop).flatMapErrorThrowing { throw OpenError($0) }
  }
}

extension EventLoopFuture where Value: Sendable {
  /// The same result, or `error` at the deadline; a result that comes later is dropped.
  func withDeadline(_ deadline: NIODeadline, _ error: @escaping @Sendable () -> any Error) -> EventLoopFuture<
    Value
  > {
    let promise = eventLoop.makePromise(of: Value.self)
    let timer = eventLoop.scheduleTask(deadline: deadline) { promise.fail(error()) }
    whenComplete {
      timer.cancel()
      promise.completeWith($0)
    }
    return promise.futureResult
  }
}
