import Logging
import MetricsTestKit
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// A session through a transport that chooses between others, from its request to its second stream.
@Suite struct ReopenedSessionTests {
  private struct NotAdmitted: Error {}
  private struct MemberLost: Error {}

  private final class Accepted: Unprintable {
    let loop = EmbeddedEventLoop()
    let client: RecordedStream
    let transport: ScriptedChoice
    let sessions = Sessions()
    let factory = TestMetrics()
    private let metrics: SessionMetrics

    init(replayLimit: Int = 1024) throws {
      client = try RecordedStream(on: loop)
      transport = ScriptedChoice(replayLimit: replayLimit)
      metrics = SessionMetrics(frontend: "line", transport: "choice", factory: factory)
      let context = FrontendContext(name: "line", logger: Logger(label: "test"), users: nil)
      let route = Route(
        frontend: LineFrontend(context: context),
        frontendName: "line",
        frontendID: 1,
        transport: transport,
        choosing: transport,
        transportName: "choice",
        transportID: 2,
        allowsLocalTargets: false,
        reserved: [],
        connectTimeout: .hours(1),
        handshakeTimeout: .seconds(5),
        idleTimeout: .minutes(5),
        metrics: metrics,
        logger: Logger(label: "test")
      )
      guard let session = sessions.admit(client.channel, route: route) else { throw NotAdmitted() }
      try client.channel.pipeline.syncOperations.addHandler(
        HandshakeHandler(LineHandshake(), session: session)
      )
    }

    /// The transport opens the stream that it was asked for by this request.
    func open(_ index: Int, over member: String) throws -> RecordedStream {
      let stream = try RecordedStream(on: loop)
      transport.script.requests[index].carrier?.member = member
      transport.script.answer(.success(stream.channel), request: index)
      loop.run()
      return stream
    }

    /// A client that has sent its question, and the stream that it went to.
    func ask() throws -> RecordedStream {
      client.receive("192.0.2.1:80\nquestion")
      let first = try open(0, over: "first")
      #expect(first.takeOutbound() == [.write("question"), .flush])
      #expect(client.takeOutbound() == [.write("+"), .flush])
      return first
    }

    var reopened: Int64 {
      get throws {
        let names = [("frontend", "line"), ("transport", "choice")]
        return try factory.expectCounter("magicalane_sessions_reopened_total", names).totalValue
      }
    }
  }

  @Test func `a session whose member dies before the first byte goes on over the other one`() throws {
    let accepted = try Accepted()
    let first = try accepted.ask()
    #expect(accepted.sessions.live.map(\.member) == ["first"])
    first.receive(MemberLost())
    #expect(accepted.transport.broken.first === first.channel)
    #expect(accepted.transport.script.requests.last?.target.description == "192.0.2.1:80")

    let second = try accepted.open(1, over: "second")
    #expect(second.takeOutbound() == [.write("question"), .flush])
    second.receive("answer")
    #expect(accepted.client.takeOutbound() == [.write("answer"), .flush])
    #expect(accepted.sessions.live.map(\.member) == ["second"])
    #expect(accepted.sessions.live.map(\.bytesUp) == [8])
    #expect(try accepted.reopened == 1)
  }

  @Test func `each request to open a stream has a deadline of its own`() throws {
    let accepted = try Accepted()
    let first = try accepted.ask()
    first.receive(MemberLost())
    let deadlines = accepted.transport.script.requests.map(\.deadline)
    #expect(deadlines.count == 2 && deadlines[0] < deadlines[1])
  }

  @Test func `a member that dies after the first byte ends the session`() throws {
    let accepted = try Accepted()
    let first = try accepted.ask()
    first.receive("a")
    first.receive(MemberLost())
    #expect(accepted.transport.broken.isEmpty)
    #expect(accepted.client.takeOutbound().last == .abort)
    #expect(accepted.sessions.count == 0)
    #expect(try accepted.reopened == 0)
  }

  @Test func `with a limit of 0 nothing is opened again`() throws {
    let accepted = try Accepted(replayLimit: 0)
    let first = try accepted.ask()
    first.receive(MemberLost())
    #expect(accepted.transport.broken.isEmpty && accepted.sessions.count == 0)
  }

  @Test func `a session that is deleted while it opens again ends, and the late stream is closed`() throws {
    let accepted = try Accepted()
    let first = try accepted.ask()
    let id = try #require(accepted.sessions.live.first?.id)
    first.receive(MemberLost())
    #expect(accepted.sessions.end(id, reason: "deleted"))
    accepted.loop.run()
    #expect(accepted.client.takeOutbound() == [.abort])
    #expect(accepted.sessions.count == 0)
    #expect(try accepted.open(1, over: "second").takeOutbound() == [.close])
    #expect(try accepted.reopened == 0)
  }

  @Test func `a session that cannot be opened again counts as one whose target broke`() throws {
    let accepted = try Accepted()
    let first = try accepted.ask()
    first.receive(MemberLost())
    accepted.transport.script.answer(.failure(OpenError(.timedOut, "as scripted")), request: 1)
    accepted.loop.run()
    #expect(accepted.client.takeOutbound() == [.abort])
    let labels = [("frontend", "line"), ("transport", "choice"), ("outcome", "target_error")]
    #expect(try accepted.factory.expectCounter("magicalane_sessions_finished_total", labels).totalValue == 1)
  }

  @Test func `a session tells no member where its transport has none`() {
    let record = SessionRecord(id: 1, frontend: "line", transport: "direct", client: nil)
    #expect(record.info.member == nil)
    record.opening(Target(host: .name("example.com"), port: 80), user: nil)
    #expect(record.info.member == nil)
  }
}

/// A choosing transport whose answers a test gives.
private final class ScriptedChoice: ChoosingTransport {
  static let type = "choice"
  let replayLimit: Int
  /// What it is asked to open, the first time and again.
  let script = ScriptedTransport()
  private let replaced = NIOLockedValueBox<[any Channel]>([])

  init(options: NoOptions, context: TransportContext) { replayLimit = 0 }
  init(replayLimit: Int) { self.replayLimit = replayLimit }

  var broken: [any Channel] { replaced.withLockedValue { $0 } }
  var paths: [PathStatus] { [] }
  func decisions(limit: Int) -> [Decision] { [] }

  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    script.connect(request, on: loop)
  }

  func reopen(
    _ request: ConnectRequest,
    insteadOf broken: any Channel,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel>? {
    replaced.withLockedValue { $0.append(broken) }
    return script.connect(request, on: loop)
  }
}
