import Logging
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// From an accepted stream to the duplex, with a frontend of one line and a transport that waits for the test.
@Suite struct SessionTests {
  private struct NotAdmitted: Error {}

  private final class Accepted: Unprintable {
    let loop = EmbeddedEventLoop()
    let client: RecordedStream
    let transport = ScriptedTransport()
    let sessions: Sessions

    init(
      sessions: Sessions = Sessions(),
      from remote: String = "127.0.0.1",
      handshakeTimeout: TimeAmount = .seconds(5)
    )
      throws
    {
      self.sessions = sessions
      client = try RecordedStream(on: loop, remote: remote)
      let context = FrontendContext(name: "line", logger: Logger(label: "test"), users: nil)
      let route = Route(
        frontend: LineFrontend(context: context),
        frontendName: "line",
        frontendID: 1,
        transport: transport,
        transportName: "scripted",
        transportID: 2,
        allowsLocalTargets: false,
        reserved: [],
        connectTimeout: .hours(1),
        handshakeTimeout: handshakeTimeout,
        idleTimeout: .minutes(5),
        metrics: SessionMetrics(frontend: "line", transport: "scripted"),
        logger: Logger(label: "test")
      )
      guard let session = sessions.admit(client.channel, route: route) else { throw NotAdmitted() }
      try client.channel.pipeline.syncOperations.addHandler(
        HandshakeHandler(LineHandshake(), session: session)
      )
      _ = client.takeOutbound()
    }

    /// The transport's stream is there.
    func open() throws -> RecordedStream {
      let target = try RecordedStream(on: loop)
      transport.answer(.success(target.channel))
      loop.run()
      return target
    }

    func refuse(_ kind: OpenError.Kind) {
      transport.answer(.failure(OpenError(kind, "as scripted")))
      loop.run()
    }
  }

  @Test func `a request that arrives byte by byte opens its target`() throws {
    let accepted = try Accepted()
    for byte in "192.0.2.1:80\n" { accepted.client.receive(String(byte)) }
    #expect(accepted.transport.requests.map(\.target.description) == ["192.0.2.1:80"])
    _ = try accepted.open()
    #expect(accepted.client.takeOutbound() == [.write("+"), .flush])
    #expect(accepted.sessions.count == 1)
  }

  @Test func `a reply of the handshake goes out before it goes on`() throws {
    let accepted = try Accepted()
    accepted.client.receive("?\n192.0.2.1:80\n")
    #expect(accepted.client.takeOutbound() == [.write("!"), .flush])
    #expect(accepted.transport.requests.count == 1)
  }

  @Test func `bytes behind the request reach the target, in order with those that come while it opens`()
    throws
  {
    let accepted = try Accepted()
    accepted.client.receive("192.0.2.1:80\nfirst ")
    accepted.client.receive("second ")
    let target = try accepted.open()
    accepted.client.receive("third")
    #expect(target.takeOutbound() == [.write("first second "), .flush, .write("third"), .flush])
  }

  @Test func `an end of stream behind the request reaches the target`() throws {
    let accepted = try Accepted()
    accepted.client.receive("192.0.2.1:80\nall")
    accepted.client.receiveEndOfStream()
    let target = try accepted.open()
    #expect(target.takeOutbound() == [.write("all"), .flush, .closeOutput])
    target.receive("answer")
    #expect(accepted.client.takeOutbound() == [.write("+"), .flush, .write("answer"), .flush])
  }

  @Test(arguments: OpenError.Kind.allCases)
  func `a target that cannot be opened is told by its cause, then the stream ends`(kind: OpenError.Kind)
    throws
  {
    let accepted = try Accepted()
    accepted.client.receive("192.0.2.1:80\n")
    accepted.refuse(kind)
    #expect(accepted.client.takeOutbound() == [.write("-\(kind)"), .flush, .closeOutput])
    #expect(accepted.sessions.count == 0)
    accepted.client.receiveEndOfStream()
    #expect(accepted.client.takeOutbound() == [.close])
  }

  @Test func `a refused client that never leaves is closed after a while`() throws {
    let accepted = try Accepted()
    accepted.client.receive("no target\n")
    #expect(accepted.client.takeOutbound() == [.write("bad"), .flush, .closeOutput])
    accepted.loop.advanceTime(by: .seconds(2))
    #expect(accepted.client.takeOutbound() == [.close])
  }

  @Test func `a refused client that goes on sending is closed at 256 KiB`() throws {
    let accepted = try Accepted()
    accepted.client.receive("no target\n")
    _ = accepted.client.takeOutbound()
    let flood = String(repeating: "x", count: 64 << 10)
    for _ in 0..<4 { accepted.client.receive(flood) }
    #expect(accepted.client.takeOutbound() == [])
    accepted.client.receive("x")
    #expect(accepted.client.takeOutbound() == [.close])
  }

  @Test func `a transport that does not answer in time is not waited for, and what it opens late is closed`()
    throws
  {
    let accepted = try Accepted()
    accepted.client.receive("192.0.2.1:80\n")
    accepted.loop.advanceTime(by: .hours(1))
    #expect(accepted.client.takeOutbound() == [])
    accepted.loop.advanceTime(by: .milliseconds(100))
    #expect(accepted.client.takeOutbound() == [.write("-\(OpenError.Kind.timedOut)"), .flush, .closeOutput])
    #expect(try accepted.open().takeOutbound() == [.close])
  }

  @Test func `a handshake that takes too long is closed`() throws {
    let accepted = try Accepted(handshakeTimeout: .seconds(5))
    accepted.client.receive("192.0.2")
    accepted.loop.advanceTime(by: .seconds(5))
    #expect(accepted.client.takeOutbound() == [.close])
    #expect(accepted.sessions.count == 0)
  }

  @Test func `the handshake's time-out ends with the handshake`() throws {
    let accepted = try Accepted(handshakeTimeout: .seconds(5))
    accepted.client.receive("192.0.2.1:80\n")
    accepted.loop.advanceTime(by: .seconds(60))
    #expect(accepted.client.takeOutbound() == [])
  }

  @Test func `a client that leaves while its target opens costs the opened stream`() throws {
    let accepted = try Accepted()
    accepted.client.receive("192.0.2.1:80\n")
    accepted.client.becomeInactive()
    #expect(accepted.sessions.count == 0)
    let target = try accepted.open()
    #expect(target.isOver)
  }

  @Test func `a client that leaves before its request is complete leaves nothing`() throws {
    let accepted = try Accepted()
    accepted.client.receive("192.0")
    accepted.client.receiveEndOfStream()
    #expect(accepted.client.takeOutbound() == [.close])
    #expect(accepted.sessions.count == 0)
  }

  @Test(arguments: ["127.0.0.1:80", "[::1]:80", "localhost:80", "169.254.169.254:80"])
  func `a client on another host may not ask for a local target`(target: String) throws {
    let accepted = try Accepted(from: "192.0.2.9")
    accepted.client.receive("\(target)\n")
    accepted.loop.run()
    #expect(accepted.client.takeOutbound() == [.write("-notAllowed"), .flush, .closeOutput])
    #expect(accepted.transport.requests.isEmpty)
  }

  @Test func `the transport is told what a name of a client elsewhere may not resolve to`() throws {
    let accepted = try Accepted(from: "192.0.2.9")
    accepted.client.receive("example.com:80\n")
    #expect(accepted.transport.requests.first?.policy.allowsLocal == false)
  }

  @Test func `over the limit a request is answered as unavailable`() throws {
    let sessions = Sessions()
    sessions.setLimit(1)
    let first = try Accepted(sessions: sessions)
    let second = try Accepted(sessions: sessions)
    second.client.receive("192.0.2.1:80\n")
    second.loop.run()
    #expect(second.client.takeOutbound() == [.write("-unavailable"), .flush, .closeOutput])
    first.client.receive("192.0.2.1:80\n")
    #expect(first.transport.requests.count == 1)
  }

  @Test func `a request for reports is answered with what was counted, its queries behind it included`()
    throws
  {
    let accepted = try Accepted()
    accepted.client.receive("#\(LegID())\n\u{1}\u{1}\u{1}\u{1}\u{1}\u{2}")
    let report = PathFrame.report(PathReport(number: 2, counts: .zero))
    #expect(
      accepted.client.takeOutbound() == [.write("+"), .flush, .write(String(buffer: report.bytes)), .flush]
    )
    #expect(accepted.sessions.live.map(\.state) == [.reporting])
    accepted.client.receive("\u{1}\u{1}\u{3}")
    #expect(accepted.client.takeOutbound().count == 2)
    accepted.client.receiveEndOfStream()
    #expect(accepted.client.isOver)
    #expect(accepted.sessions.count == 0)
    #expect(accepted.sessions.totals.frontends["line"]?.failed == 0)
  }

  @Test func `a client of reports that says nothing is closed after a while, one that asks is not`() throws {
    let accepted = try Accepted()
    accepted.client.receive("#\(LegID())\n")
    accepted.loop.advanceTime(by: .minutes(4))
    accepted.client.receive("\u{1}\u{1}\u{1}")
    accepted.loop.advanceTime(by: .minutes(4))
    #expect(!accepted.client.isOver)
    accepted.loop.advanceTime(by: .minutes(1))
    #expect(accepted.client.isOver)
    #expect(accepted.sessions.count == 0)
  }

  @Test func `garbage in place of queries breaks the stream off`() throws {
    let accepted = try Accepted()
    accepted.client.receive("#\(LegID())\n")
    accepted.client.receive("\u{2}\u{0}")
    accepted.loop.run()
    #expect(accepted.client.takeOutbound().last == .close)
    #expect(accepted.sessions.count == 0)
  }

  @Test func `while reports cannot be written no query is read`() throws {
    let accepted = try Accepted()
    accepted.client.receive("#\(LegID())\n")
    accepted.client.setWritable(false)
    accepted.client.receive("\u{1}\u{1}\u{1}")
    let reads = accepted.client.readCount
    accepted.client.setWritable(true)
    #expect(accepted.client.readCount == reads + 1)
  }

  @Test func `reports hold up no drain, and none begin in one`() throws {
    let sessions = Sessions()
    let reporting = try Accepted(sessions: sessions)
    let late = try Accepted(sessions: sessions)
    let running = try Accepted(sessions: sessions)
    reporting.client.receive("#\(LegID())\n")
    running.client.receive("192.0.2.1:80\n")
    let promise = running.loop.makePromise(of: Void.self)
    #expect(sessions.beginDrain([1], promise).count == 3)
    for accepted in [reporting, late, running] { accepted.loop.run() }
    #expect(reporting.client.isOver)
    late.client.receive("#\(LegID())\n")
    #expect(late.client.takeOutbound().first == .write("-unavailable"))
    #expect(!running.client.isOver)
    #expect(sessions.count == 1)
    running.client.becomeInactive()
    #expect(throws: Never.self) { try promise.futureResult.wait() }
  }

  @Test func `reports count as sessions, up to the limit`() throws {
    let sessions = Sessions()
    sessions.setLimit(1)
    let reporting = try Accepted(sessions: sessions)
    reporting.client.receive("#\(LegID())\n")
    let second = try Accepted(sessions: sessions)
    second.client.receive("#\(LegID())\n")
    #expect(second.client.takeOutbound().first == .write("-unavailable"))
  }

  @Test func `where the memory is used up a request is answered as unavailable`() throws {
    let memory = MemoryBudget(limit: 16 << 20)
    let sessions = Sessions(memory: memory)
    do {
      var others = MemoryClaim(memory)
      others.hold(16 << 20)
      let accepted = try Accepted(sessions: sessions)
      accepted.client.receive("192.0.2.1:80\n")
      accepted.loop.run()
      #expect(accepted.client.takeOutbound() == [.write("-unavailable"), .flush, .closeOutput])
    }
    let accepted = try Accepted(sessions: sessions)
    accepted.client.receive("192.0.2.1:80\n")
    #expect(accepted.transport.requests.count == 1)
  }

  @Test func `while draining nothing is admitted, and what has not asked yet is broken off`() throws {
    let sessions = Sessions()
    let waiting = try Accepted(sessions: sessions)
    let running = try Accepted(sessions: sessions)
    running.client.receive("192.0.2.1:80\n")
    sessions.refuseNew()
    waiting.loop.run()
    running.loop.run()
    #expect(waiting.client.isOver)
    #expect(!running.client.isOver)
    #expect(throws: NotAdmitted.self) { try Accepted(sessions: sessions) }
    let target = try running.open()
    running.client.receive("goes on")
    #expect(target.takeOutbound() == [.write("goes on"), .flush])
  }
}
