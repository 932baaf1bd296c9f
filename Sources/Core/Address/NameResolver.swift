import Metrics
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Resolves names to addresses on threads of its own, in the order in which RFC 8305 §4 tries them, and remembers
/// them for a while.
///
///     asked ──► cached? ──yes──► answer
///                 │ no
///                 └──► running? ──yes──► wait for that look-up
///                         │ no
///                         └──► look-up on a thread ──► cache, and everybody who waits
///
/// `getaddrinfo` blocks for as long as the system's resolver is set to try (resolv.conf(5): `timeout`,
/// `attempts`), so a name that does not resolve holds one thread for that long and no second one. A look-up that
/// finds no free thread before all who asked have given up is never started.
public final class NameResolver: Sendable {
  fileprivate struct State {
    var cache: NameCache
    /// By name, those that run or wait for a thread.
    var lookups: [String: Lookup] = [:]
    var lastNumber: UInt64 = 0
    /// What was asked before the last `forgetAll` is not kept.
    var firstToKeep: UInt64 = 0
  }

  fileprivate struct Lookup {
    var number: UInt64
    var waiting: [EventLoopPromise<NameCache.Answer>]
    /// When the last one that waits gives up; nil where one never does.
    var deadline: NIODeadline?
  }

  private let threads: NIOThreadPool
  private let now: @Sendable () -> NIODeadline
  private let lookup: @Sendable (String) throws -> [IPAddress]
  private let metrics: ResolverMetrics
  private let state: NIOLockedValueBox<State>

  /// - Parameter threads: how many names can be looked up at once.
  public convenience init(threads: Int = 32, settings: ResolverSettings = ResolverSettings()) {
    self.init(threads: threads, settings: settings, lookup: systemLookup)
  }

  /// - Parameters:
  ///   - now: the clock of the cache; called on any thread.
  ///   - lookup: what is asked instead of the system; it may block and throws `OpenError`.
  init(
    threads: Int,
    settings: ResolverSettings = ResolverSettings(),
    factory: any MetricsFactory = MetricsSystem.factory,
    now: @escaping @Sendable () -> NIODeadline = { .now() },
    lookup: @escaping @Sendable (String) throws -> [IPAddress]
  ) {
    self.threads = NIOThreadPool(numberOfThreads: threads)
    self.now = now
    self.lookup = lookup
    metrics = ResolverMetrics(factory: factory)
    state = NIOLockedValueBox(State(cache: NameCache(settings)))
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
      return loop.makeCompletedFuture { try Self.permitted([address], target, policy) }
    case .name(let name):
      return answer(to: name.lowercased(), by: nil, on: loop).flatMapThrowing {
        try Self.permitted($0.result.get(), target, policy)
      }
    }
  }

  /// Forgets all answers, those too that are on their way.
  func forgetAll() {
    state.withLockedValue { $0.forgetAll() }
  }

  /// Forgets all answers, and keeps those to come for other times.
  func apply(_ settings: ResolverSettings) {
    state.withLockedValue { state in
      state.cache.settings = settings
      state.forgetAll()
    }
  }

  /// Forgets an answer none of whose addresses could be connected to, so that the next session asks again.
  func drop(_ name: String, _ answer: NameCache.Answer) {
    state.withLockedValue { $0.cache.drop(name, number: answer.number) }
  }

  /// The addresses that a policy permits, in the order of attempts.
  ///
  /// The policy is asked about every use of an answer: one that a request was allowed to use says nothing about
  /// the next request, and a name may mean another address by then.
  static func permitted(_ found: [IPAddress], _ target: Target, _ policy: AddressPolicy) throws
    -> [SocketAddress]
  {
    let allowed = interleaved(found).map { $0.socketAddress(port: target.port) }.filter(policy.permits)
    guard !allowed.isEmpty else { throw notPermitted(target) }
    return allowed
  }

  /// What a policy that left no address answers.
  static func notPermitted(_ target: Target) -> OpenError {
    OpenError(.notAllowed, "\(target) is local to this host, which requests from other hosts may not reach")
  }
}

// MARK: Look-ups

extension NameResolver {
  fileprivate enum Asked {
    case known(NameCache.Answer)
    case running(EventLoopFuture<NameCache.Answer>)
    case new(EventLoopFuture<NameCache.Answer>)
  }

  /// What is known of the name, or will be; a failed look-up is an answer too.
  ///
  /// - Parameters:
  ///   - name: in lower case.
  ///   - deadline: when the future fails with `.timedOut` at the latest; nil for never.
  func answer(
    to name: String,
    by deadline: NIODeadline?,
    on loop: any EventLoop
  ) -> EventLoopFuture<NameCache.Answer> {
    let now = now()
    let asked = state.withLockedValue { $0.ask(name, at: now, by: deadline, on: loop) }
    let answer: EventLoopFuture<NameCache.Answer>
    switch asked {
    case .known(let known):
      metrics.cached.increment()
      return loop.makeSucceededFuture(known)
    case .running(let running):
      metrics.shared.increment()
      answer = running
    case .new(let new):
      metrics.asked.increment()
      threads.submit { [self] in run(name, isActive: $0 == .active) }
      answer = new
    }
    guard let deadline else { return answer }
    return answer.withDeadline(deadline) { OpenError(.timedOut, "\(name) did not resolve in time") }
  }

  /// On a thread that may block.
  private func run(_ name: String, isActive: Bool) {
    let now = now()
    if let abandoned = state.withLockedValue({ $0.takeAbandoned(name, at: now) }) {
      return abandoned.fail(OpenError(.timedOut, "\(name) was not looked up in time"))
    }
    guard isActive else {
      let lookup = state.withLockedValue { $0.lookups.removeValue(forKey: name) }
      lookup?.fail(OpenError(.unavailable, "the resolver is shutting down"))
      return
    }
    do {
      finish(name, .success(try lookup(name)))
    } catch {
      finish(name, .failure(OpenError(error)))
    }
  }

  private func finish(_ name: String, _ result: Result<[IPAddress], OpenError>) {
    let now = now()
    let finished = state.withLockedValue { state -> (NameCache.Answer, Lookup)? in
      guard let lookup = state.lookups.removeValue(forKey: name) else { return nil }
      let answer = NameCache.Answer(result: result, number: lookup.number)
      if lookup.number >= state.firstToKeep { state.cache.keep(answer, of: name, at: now) }
      return (answer, lookup)
    }
    guard let (answer, lookup) = finished else { return }
    for promise in lookup.waiting { promise.succeed(answer) }
  }
}

extension NameResolver.Lookup {
  fileprivate func fail(_ error: OpenError) {
    for promise in waiting { promise.fail(error) }
  }
}

extension NameResolver.State {
  fileprivate mutating func ask(
    _ name: String,
    at now: NIODeadline,
    by deadline: NIODeadline?,
    on loop: any EventLoop
  ) -> NameResolver.Asked {
    if let answer = cache.answer(to: name, at: now) { return .known(answer) }
    let promise = loop.makePromise(of: NameCache.Answer.self)
    if var running = lookups.removeValue(forKey: name) {
      running.waiting.append(promise)
      running.deadline = running.deadline.flatMap { last in deadline.map { max(last, $0) } }
      lookups[name] = running
      return .running(promise.futureResult)
    }
    lastNumber += 1
    lookups[name] = NameResolver.Lookup(number: lastNumber, waiting: [promise], deadline: deadline)
    return .new(promise.futureResult)
  }

  /// Takes the look-up out where nobody needs it any more.
  fileprivate mutating func takeAbandoned(_ name: String, at now: NIODeadline) -> NameResolver.Lookup? {
    guard let deadline = lookups[name]?.deadline, deadline <= now else { return nil }
    return lookups.removeValue(forKey: name)
  }

  fileprivate mutating func forgetAll() {
    cache.forgetAll()
    firstToKeep = lastNumber + 1
  }
}

/// Counts how names were answered; safe from any thread.
private final class ResolverMetrics: Sendable {
  let cached: Counter
  let shared: Counter
  let asked: Counter

  init(factory: any MetricsFactory) {
    func counter(_ answer: String) -> Counter {
      Counter(label: "magicalane_names_total", dimensions: [("answer", answer)], factory: factory)
    }
    cached = counter("cached")
    shared = counter("shared")
    asked = counter("asked")
  }

  deinit {
    for counter in [cached, shared, asked] { counter.destroy() }
  }
}

/// IPv6 and IPv4 in turn, each family in the order given (RFC 8305 §4).
private func interleaved(_ addresses: [IPAddress]) -> [IPAddress] {
  let six = addresses.filter { if case .v6 = $0 { true } else { false } }
  let four = addresses.filter { if case .v4 = $0 { true } else { false } }
  let pairs = zip(six, four).flatMap { [$0, $1] }
  return pairs + six.dropFirst(four.count) + four.dropFirst(six.count)
}
