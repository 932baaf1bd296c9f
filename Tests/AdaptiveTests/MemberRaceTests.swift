import Logging
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneAdaptive
@testable import MagicalaneCore

/// As `AnsweringTransport`, without a server between it and its targets.
final class DirectTransport: Transport, @unchecked Sendable {
  // Used on one embedded loop, which is to say on one thread.
  static let type = "direct"
  let error: OpenError

  init(failingWith error: OpenError) { self.error = error }
  init(options: NoOptions, context: TransportContext) throws { throw PluginError("made by tests alone") }

  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    loop.makeFailedFuture(error)
  }
}

/// A member whose answers the test gives.
final class AnsweringTransport: TunnelTransport, @unchecked Sendable {
  // Used on one embedded loop, which is to say on one thread.
  static let type = "answering"
  let credentials: Credentials? = nil
  var asked: [ConnectRequest] = []
  var answers: [EventLoopPromise<any Channel>] = []

  init() {}
  init(options: NoOptions, context: TransportContext) throws {}

  func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    loop.makeFailedFuture(OpenError(.failed, "not asked for here"))
  }

  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    let promise = loop.makePromise(of: (any Channel).self)
    asked.append(request)
    answers.append(promise)
    return promise.futureResult
  }
}

@Suite struct MemberRaceTests {
  private let loop = EmbeddedEventLoop()
  private let transports = [AnsweringTransport(), AnsweringTransport()]
  private let legs: [Leg]
  private let seen = Seen()

  /// What the race told.
  private final class Seen {
    var won: [Int] = []
    var failed: [Int] = []
    var result: Result<any Channel, any Error>?
    var message: String? {
      guard case .failure(let error) = result else { return nil }
      return OpenError(error).message
    }
  }

  init() {
    legs = transports.enumerated().map {
      Leg(index: $0, member: TransportMember(name: "m\($0)", transport: $1))
    }
  }

  @Test func `a member that answers is the only one asked`() throws {
    start()
    transports[0].answers[0].succeed(stream())
    loop.advanceTime(by: .seconds(5))
    #expect(transports[1].asked.isEmpty)
    #expect(seen.won == [0])
    #expect(try seen.result?.get() != nil)
  }

  @Test func `each member is asked with the name of its own leg`() {
    start()
    loop.advanceTime(by: .milliseconds(300))
    #expect(transports[0].asked.first?.leg == legs[0].id)
    #expect(transports[1].asked.first?.leg == legs[1].id)
  }

  @Test func `a silent member is given its head start, and no more`() {
    start()
    loop.advanceTime(by: .milliseconds(299))
    #expect(transports[1].asked.isEmpty)
    loop.advanceTime(by: .milliseconds(1))
    #expect(transports[1].asked.count == 1)
  }

  @Test func `the first answer wins, and a later stream is closed`() {
    start()
    loop.advanceTime(by: .milliseconds(300))
    transports[1].answers[0].succeed(stream())
    let late = stream()
    transports[0].answers[0].succeed(late)
    #expect(seen.won == [1])
    #expect(!late.isActive)
  }

  @Test func `a failure of the member goes to the next one at once`() {
    start()
    transports[0].answers[0].fail(OpenError(.refused, "nothing listens").ofTunnel)
    #expect(transports[1].asked.count == 1)
    #expect(seen.failed == [0])
  }

  @Test func `a failure of the target is the answer`() {
    start()
    transports[0].answers[0].fail(OpenError(.refused, "the target refused"))
    #expect(transports[1].asked.isEmpty)
    #expect(seen.failed.isEmpty)
    #expect(throws: OpenError.self) { try seen.result?.get() }
  }

  @Test func `a member that spoke meanwhile is waited for, as the target is slow`() {
    start()
    legs[0].heard()
    loop.advanceTime(by: .milliseconds(300))
    #expect(transports[1].asked.isEmpty)
    loop.advanceTime(by: .milliseconds(300))
    #expect(transports[1].asked.isEmpty)
  }

  @Test func `who waits for a member hears when it fails for another`() {
    start()
    legs[0].releaseRaces()
    loop.run()
    #expect(transports[1].asked.count == 1)
  }

  @Test func `where all fail the first failure is told`() {
    start()
    transports[0].answers[0].fail(OpenError(.refused, "first").ofTunnel)
    transports[1].answers[0].fail(OpenError(.timedOut, "second").ofTunnel)
    #expect(throws: OpenError.self) { try seen.result?.get() }
    #expect(seen.message == "first")
    #expect(seen.failed == [0, 1])
  }

  @Test func `a failure that comes after the race is still the member's`() {
    start()
    loop.advanceTime(by: .milliseconds(300))
    transports[1].answers[0].succeed(stream())
    transports[0].answers[0].fail(OpenError(.timedOut, "no answer").ofTunnel)
    #expect(seen.failed == [0])
  }

  @Test func `a target that one way does not reach is tried by the next, and the way is not blamed`() {
    start(first: DirectTransport(failingWith: OpenError(.hostUnreachable, "no route")))
    #expect(transports[1].asked.count == 1)
    #expect(seen.failed.isEmpty)
  }

  @Test func `a target that may not be reached is not tried by another way`() {
    start(first: DirectTransport(failingWith: OpenError(.notAllowed, "local")))
    #expect(transports[1].asked.isEmpty)
    #expect(seen.message == "local")
  }

  private func start(first: (any Transport)? = nil) {
    let seen = seen
    let hooks = MemberRace.Hooks(
      begun: { _ in },
      won: { leg, _, _ in seen.won.append(leg.index) },
      failed: { leg, _ in seen.failed.append(leg.index) }
    )
    let request = ConnectRequest(
      target: Target(host: .name("example.com"), port: 443),
      policy: AddressPolicy(allowsLocal: true),
      deadline: .distantFuture
    )
    let others = first.map { [Leg(index: 0, member: TransportMember(name: "way", transport: $0)), legs[1]] }
    let race = MemberRace(
      request,
      legs: others ?? legs,
      headStart: .milliseconds(300),
      on: loop,
      hooks: hooks
    )
    race.run().assumeIsolated().whenComplete { seen.result = $0 }
  }

  private func stream() -> EmbeddedChannel {
    let channel = EmbeddedChannel(loop: loop)
    if let address = try? SocketAddress(ipAddress: "127.0.0.1", port: 1) {
      channel.connect(to: address, promise: nil)
    }
    return channel
  }
}
