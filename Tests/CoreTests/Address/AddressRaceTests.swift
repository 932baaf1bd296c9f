import NIOCore
import NIOEmbedded
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
