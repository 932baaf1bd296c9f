import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import MagicalaneCore

/// The order of attempts of RFC 8305, on a clock that the test turns.
@Suite struct AddressRaceTests {
  private final class Race: Unprintable {
    let loop = EmbeddedEventLoop()
    var attempts: [(address: SocketAddress, promise: EventLoopPromise<any Channel>)] = []
    var result: Result<any Channel, any Error>?

    init(_ count: Int, deadline: TimeAmount = .seconds(10)) {
      let addresses = (1...count).map { IPAddress.v4(UInt32($0)).socketAddress(port: 80) }
      // Everything happens on the embedded loop, which is this thread.
      nonisolated(unsafe) let race = self
      AddressRace.run(addresses, deadline: .now() + deadline, on: loop) { address in
        let promise = race.loop.makePromise(of: (any Channel).self)
        race.attempts.append((address, promise))
        return promise.futureResult
      }.whenComplete { race.result = $0 }
      loop.run()
    }

    func fail(_ index: Int, _ error: OpenError) {
      attempts[index].promise.fail(error)
      loop.run()
    }

    func succeed(_ index: Int) -> EmbeddedChannel {
      let channel = EmbeddedChannel(loop: loop)
      attempts[index].promise.succeed(channel)
      loop.run()
      return channel
    }
  }

  @Test func `the second address is tried 250 ms after the first`() {
    let race = Race(3, deadline: .hours(1))
    #expect(race.attempts.count == 1)
    race.loop.advanceTime(by: .milliseconds(249))
    #expect(race.attempts.count == 1)
    race.loop.advanceTime(by: .milliseconds(1))
    #expect(race.attempts.count == 2)
    _ = race.succeed(0)
  }

  @Test func `a failure starts the next attempt at once`() {
    let race = Race(3, deadline: .hours(1))
    race.fail(0, OpenError(.refused, "refused"))
    #expect(race.attempts.count == 2)
    _ = race.succeed(1)
  }

  @Test func `the first answer wins and a later one is closed`() throws {
    let race = Race(2, deadline: .hours(1))
    race.loop.advanceTime(by: .milliseconds(250))
    let winner = race.succeed(1)
    let late = race.succeed(0)
    #expect(try race.result?.get() === winner)
    #expect(throws: (any Error).self) { try late.close().wait() }
  }

  @Test func `when all fail the first cause is told`() {
    let race = Race(2, deadline: .hours(1))
    race.fail(0, OpenError(.refused, "refused"))
    race.fail(1, OpenError(.networkUnreachable, "unreachable"))
    #expect(throws: OpenError.self) { try race.result?.get() }
    guard case .failure(let error as OpenError)? = race.result else { return #expect(Bool(false)) }
    #expect(error.kind == .refused)
  }

  @Test func `the deadline ends the race`() {
    let race = Race(1, deadline: .seconds(3))
    race.loop.advanceTime(by: .hours(24 * 365 * 200))
    guard case .failure(let error as OpenError)? = race.result else { return #expect(Bool(false)) }
    #expect(error.kind == .timedOut)
    race.fail(0, OpenError(.refused, "too late"))
  }
}

@Suite struct NameResolverTests {
  private let loop = MultiThreadedEventLoopGroup.singleton.next()

  private func resolver(_ answers: [String: [String]], counting: NIOLockedValueBox<Int> = .init(0))
    -> NameResolver
  {
    NameResolver(threads: 2) { name in
      counting.withLockedValue { $0 += 1 }
      guard let found = answers[name] else { throw OpenError(.nameNotResolved, "\(name) does not resolve") }
      return found.compactMap(IPAddress.init)
    }
  }

  private func failure(of future: EventLoopFuture<[SocketAddress]>) async -> OpenError.Kind? {
    do {
      _ = try await future.get()
      return nil
    } catch {
      return (error as? OpenError)?.kind
    }
  }

  @Test func `families take turns, IPv6 first`() async throws {
    let resolver = resolver(["x": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]])
    let found = try await resolver.resolve(Target(host: .name("x"), port: 80), on: loop).get()
    #expect(
      found.compactMap(IPAddress.init).map(\.description)
        == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    )
    #expect(found.allSatisfy { $0.port == 80 })
  }

  @Test func `names are asked for in lower case`() async throws {
    let found = try await resolver(["x.example": ["192.0.2.1"]])
      .resolve(Target(host: .name("X.Example"), port: 80), on: loop).get()
    #expect(found.count == 1)
  }

  @Test func `a name that means only local addresses is not allowed to a request from elsewhere`()
    async throws
  {
    let resolver = resolver(["rebound": ["127.0.0.1", "::1"], "mixed": ["127.0.0.1", "192.0.2.1"]])
    let policy = AddressPolicy(allowsLocal: false)
    let rebound = resolver.resolve(Target(host: .name("rebound"), port: 80), policy: policy, on: loop)
    #expect(await failure(of: rebound) == .notAllowed)
    let mixed = try await resolver.resolve(Target(host: .name("mixed"), port: 80), policy: policy, on: loop)
      .get()
    #expect(mixed.compactMap(IPAddress.init).map(\.description) == ["192.0.2.1"])
  }

  @Test func `an unknown name is told as such`() async {
    let found = resolver([:]).resolve(Target(host: .name("nowhere"), port: 80), on: loop)
    #expect(await failure(of: found) == .nameNotResolved)
  }

  @Test func `sessions that ask for one name at once share one look-up`() async throws {
    let count = NIOLockedValueBox(0)
    let gate = NIOLockedValueBox(false)
    let resolver = NameResolver(threads: 4) { _ in
      count.withLockedValue { $0 += 1 }
      while !gate.withLockedValue({ $0 }) {}
      return [.v4(1)]
    }
    let target = Target(host: .name("x"), port: 80)
    let asked = (0..<50).map { _ in resolver.resolve(target, on: loop) }
    gate.withLockedValue { $0 = true }
    for future in asked { _ = try await future.get() }
    #expect(count.withLockedValue { $0 } == 1)
  }

  @Test func `an address needs no look-up`() async throws {
    let count = NIOLockedValueBox(0)
    let found = try await resolver([:], counting: count)
      .resolve(Target(host: .address(.v4(0x0808_0808)), port: 53), on: loop).get()
    #expect(found.count == 1)
    #expect(count.withLockedValue { $0 } == 0)
  }
}
