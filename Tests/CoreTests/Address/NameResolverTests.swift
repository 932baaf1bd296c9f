import Metrics
import MetricsTestKit
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import MagicalaneCore

/// What is asked in place of the system, on a clock that the test turns.
private final class FakeNames: Sendable {
  struct State {
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
    var answers: [String: [String]] = [:]
    var asked: [String] = []
  }

  let state: NIOLockedValueBox<State>
  /// A look-up waits where it is held.
  private let gate = ConditionLock(value: true)
  let metrics = TestMetrics()

  init(_ answers: [String: [String]] = [:]) {
    state = NIOLockedValueBox(State(answers: answers))
  }

  func resolver(threads: Int = 2) -> NameResolver {
    NameResolver(
      threads: threads,
      factory: metrics,
      now: { self.state.withLockedValue { $0.now } },
      lookup: { try self.look($0) }
    )
  }

  func hold() {
    gate.lock()
    gate.unlock(withValue: false)
  }

  func release() {
    gate.lock()
    gate.unlock(withValue: true)
  }

  func pass(_ time: TimeAmount) {
    state.withLockedValue { $0.now = $0.now + time }
  }

  func set(_ name: String, _ addresses: [String]?) {
    state.withLockedValue { $0.answers[name] = addresses }
  }

  var now: NIODeadline { state.withLockedValue { $0.now } }
  var asked: [String] { state.withLockedValue { $0.asked } }

  func total(_ answer: String) throws -> Int64 {
    try metrics.expectCounter("magicalane_names_total", [("answer", answer)]).totalValue
  }

  private func look(_ name: String) throws -> [IPAddress] {
    let found = state.withLockedValue { state in
      state.asked.append(name)
      return state.answers[name]
    }
    gate.lock(whenValue: true)
    gate.unlock()
    guard let found else { throw OpenError(.nameNotResolved, "\(name) does not resolve") }
    return found.compactMap(IPAddress.init)
  }
}

@Suite struct NameResolverTests {
  private let loop = MultiThreadedEventLoopGroup.singleton.next()
  private let names = FakeNames()

  private func resolved(
    _ name: String,
    by resolver: NameResolver,
    policy: AddressPolicy = .unrestricted
  ) async throws -> [String] {
    try await resolver.resolve(Target(host: .name(name), port: 80), policy: policy, on: loop).get()
      .compactMap(IPAddress.init).map(\.description)
  }

  private func failure(_ work: () async throws -> some Sendable) async -> OpenError.Kind? {
    do {
      _ = try await work()
      return nil
    } catch {
      return (error as? OpenError)?.kind
    }
  }

  // MARK: Answers

  @Test func `families take turns, IPv6 first`() async throws {
    names.set("x", ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"])
    let found = try await names.resolver().resolve(Target(host: .name("x"), port: 80), on: loop).get()
    #expect(
      found.compactMap(IPAddress.init).map(\.description)
        == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    )
    #expect(found.allSatisfy { $0.port == 80 })
  }

  @Test func `names are asked for in lower case`() async throws {
    names.set("x.example", ["192.0.2.1"])
    #expect(try await resolved("X.Example", by: names.resolver()) == ["192.0.2.1"])
  }

  @Test func `a name that means only local addresses is not allowed to a request from elsewhere`()
    async throws
  {
    names.set("rebound", ["127.0.0.1", "::1"])
    names.set("mixed", ["127.0.0.1", "192.0.2.1"])
    let resolver = names.resolver()
    let policy = AddressPolicy(allowsLocal: false)
    #expect(await failure { try await resolved("rebound", by: resolver, policy: policy) } == .notAllowed)
    #expect(try await resolved("mixed", by: resolver, policy: policy) == ["192.0.2.1"])
  }

  @Test func `an unknown name is told as such`() async {
    #expect(await failure { try await resolved("nowhere", by: names.resolver()) } == .nameNotResolved)
  }

  @Test func `an address needs no look-up`() async throws {
    let found = try await names.resolver()
      .resolve(Target(host: .address(.v4(0x0808_0808)), port: 53), on: loop).get()
    #expect(found.count == 1)
    #expect(names.asked.isEmpty)
  }

  // MARK: Remembering

  @Test func `a name is asked for once in its time, in whatever case and for whatever port`() async throws {
    names.set("x", ["192.0.2.1"])
    let resolver = names.resolver()
    #expect(try await resolved("x", by: resolver) == ["192.0.2.1"])
    names.pass(.seconds(10) - .nanoseconds(1))
    names.set("x", ["192.0.2.2"])
    #expect(try await resolved("X", by: resolver) == ["192.0.2.1"])
    let other = try await resolver.resolve(Target(host: .name("x"), port: 443), on: loop).get()
    #expect(other.map(\.port) == [443])
    names.pass(.nanoseconds(1))
    #expect(try await resolved("x", by: resolver) == ["192.0.2.2"])
    #expect(names.asked == ["x", "x"])
    #expect(try names.total("asked") == 2)
    #expect(try names.total("cached") == 2)
  }

  @Test func `a failure is told again for a second`() async throws {
    let resolver = names.resolver()
    #expect(await failure { try await resolved("x", by: resolver) } == .nameNotResolved)
    names.set("x", ["192.0.2.1"])
    #expect(await failure { try await resolved("x", by: resolver) } == .nameNotResolved)
    names.pass(.seconds(1))
    #expect(try await resolved("x", by: resolver) == ["192.0.2.1"])
    #expect(names.asked.count == 2)
  }

  @Test func `what one request may reach says nothing about the next`() async throws {
    names.set("x", ["127.0.0.1"])
    let resolver = names.resolver()
    #expect(try await resolved("x", by: resolver) == ["127.0.0.1"])
    let policy = AddressPolicy(allowsLocal: false)
    #expect(await failure { try await resolved("x", by: resolver, policy: policy) } == .notAllowed)
    #expect(try await resolved("x", by: resolver) == ["127.0.0.1"])
    #expect(names.asked.count == 1)
  }

  @Test func `other times hold at once`() async throws {
    names.set("x", ["192.0.2.1"])
    let resolver = names.resolver()
    _ = try await resolved("x", by: resolver)
    var settings = ResolverSettings()
    settings.cache = .zero
    resolver.apply(settings)
    _ = try await resolved("x", by: resolver)
    _ = try await resolved("x", by: resolver)
    #expect(names.asked.count == 3)
  }

  @Test func `what is forgotten while it is looked up is not kept`() async throws {
    names.set("x", ["192.0.2.1"])
    let resolver = names.resolver()
    names.hold()
    let target = Target(host: .name("x"), port: 80)
    let early = resolver.resolve(target, on: loop)
    resolver.forgetAll()
    names.release()
    _ = try await early.get()
    _ = try await resolved("x", by: resolver)
    #expect(names.asked.count == 2)
  }

  // MARK: Look-ups at once

  @Test func `sessions that ask for one name at once share one look-up`() async throws {
    names.set("x", ["192.0.2.1"])
    let resolver = names.resolver()
    names.hold()
    let target = Target(host: .name("x"), port: 80)
    let asked = (0..<50).map { _ in resolver.resolve(target, on: loop) }
    names.release()
    for future in asked { _ = try await future.get() }
    #expect(names.asked.count == 1)
    #expect(try names.total("shared") == 49)
  }

  @Test func `a look-up that all gave up before a thread was free is not started`() async throws {
    let resolver = names.resolver(threads: 1)
    names.set("late", ["192.0.2.1"])
    names.hold()
    let slow = resolver.answer(to: "slow", by: nil, on: loop)
    // The deadlines are of the test's clock; that of the event loop, far ahead of it, must not strike.
    let embedded = EmbeddedEventLoop()
    let given = resolver.answer(to: "given up", by: names.now + .seconds(5), on: embedded)
    let late = resolver.answer(to: "late", by: names.now + .seconds(5), on: embedded)
    let patient = resolver.answer(to: "late", by: nil, on: loop)
    names.pass(.seconds(5))
    names.release()
    _ = try await slow.get()
    #expect(try await patient.get().result.get() == [.v4(0xc000_0201)])
    #expect(names.asked == ["slow", "late"])
    embedded.run()
    #expect(throws: OpenError.self) { try given.wait() }
    _ = late
  }

  // MARK: Opening

  private func open(
    _ resolver: NameResolver,
    policy: AddressPolicy = .unrestricted,
    attempt: @escaping @Sendable (SocketAddress) throws -> any Channel
  ) async throws -> any Channel {
    let target = Target(host: .name("x"), port: 80)
    return try await resolver.open(target, policy: policy, deadline: .distantFuture, on: loop) {
      [loop] address in
      loop.makeCompletedFuture { try attempt(address) }
    }.get()
  }

  @Test func `an answer that leads nowhere is forgotten, and one that leads somewhere is kept`() async throws
  {
    names.set("x", ["192.0.2.1", "192.0.2.2"])
    let resolver = names.resolver()
    let refuse: @Sendable (SocketAddress) throws -> any Channel = { _ in
      throw OpenError(.refused, "refused")
    }
    #expect(await failure { try await open(resolver, attempt: refuse) } == .refused)
    names.set("x", ["192.0.2.3", "192.0.2.4"])
    let reachable = IPAddress("192.0.2.4")?.socketAddress(port: 80)
    for _ in 0..<3 {
      _ = try await open(resolver) { address in
        guard address == reachable else { throw OpenError(.refused, "refused") }
        return EmbeddedChannel()
      }
    }
    #expect(names.asked.count == 2)
  }

  @Test func `a request that may not reach an answer does not make others ask again`() async throws {
    names.set("x", ["127.0.0.1"])
    let resolver = names.resolver()
    let forbid = AddressPolicy(allowsLocal: false)
    let fail: @Sendable (SocketAddress) throws -> any Channel = { _ in throw OpenError(.failed, "attempted") }
    #expect(await failure { try await open(resolver, policy: forbid, attempt: fail) } == .notAllowed)
    _ = try await open(resolver) { _ in EmbeddedChannel() }
    #expect(names.asked.count == 1)
  }
}
