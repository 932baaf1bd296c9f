import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

@Suite struct PathReportExchangeTests {
  static let leg = LegID()
  static let agreed =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: magicalane-path/1\r\n\r\n"

  static func exchange(_ credentials: Credentials? = nil) -> PathReportExchange {
    PathReportExchange(leg: leg, credentials: credentials, host: "a.b")
  }

  /// How the answer ends; nil where it is not complete, or agrees.
  static func failure(_ answer: String) -> PathReportError? {
    var exchange = exchange()
    var bytes = ByteBuffer(string: answer)
    do throws(PathReportError) {
      _ = try exchange.receive(&bytes)
      return nil
    } catch {
      return error
    }
  }

  @Test func `the request asks for an upgrade and names the leg`() {
    #expect(
      String(buffer: Self.exchange().request)
        == "GET /.well-known/magicalane/path HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\n"
        + "Upgrade: magicalane-path/1\r\nMagicalane-Leg: \(Self.leg)\r\n\r\n"
    )
  }

  @Test func `credentials travel as Basic`() {
    let request = String(buffer: Self.exchange(Credentials(user: "alice", password: "s:ecret")).request)
    #expect(request.contains("\r\nProxy-Authorization: Basic YWxpY2U6czplY3JldA==\r\n"))
  }

  @Test func `queries count up once the server agreed, and reports come back, at every cut`() throws {
    let report = PathReport(number: 1, counts: PathCounts(sent: 5, received: 4))
    let all =
      Array("HTTP/1.1 103 Early Hints\r\n\r\n\(Self.agreed)".utf8)
      + PathFrame.report(report).bytes.readableBytesView
    for cut in 0...all.count {
      var exchange = Self.exchange()
      #expect(exchange.query() == nil)
      var events: [PathReportExchange.Event] = []
      var bytes = ByteBuffer()
      for piece in [all[..<cut], all[cut...]] {
        bytes.writeBytes(piece)
        while let event = try exchange.receive(&bytes) {
          if event == .agreed {
            #expect(exchange.query()?.number == 1)
            #expect(exchange.query()?.bytes == PathFrame.query(2).bytes)
          }
          events.append(event)
        }
      }
      #expect(events == [.agreed, .report(report)])
    }
  }

  @Test(arguments: [400, 404, 405, 426, 501, 505, 200, 204, 302, 410])
  func `a server that knows nothing of reports is told apart`(status: Int) {
    #expect(Self.failure("HTTP/1.1 \(status) x\r\n\r\n") == .lacking(status: status))
  }

  @Test(arguments: [401, 403, 407])
  func `a server that does not let us in is told apart`(status: Int) {
    #expect(Self.failure("HTTP/1.1 \(status) x\r\n\r\n") == .refused(status: status))
  }

  @Test(arguments: [408, 429, 500, 502, 503, 504])
  func `a server in trouble is one to come back to`(status: Int) {
    #expect(Self.failure("HTTP/1.1 \(status) x\r\n\r\n") == .lost("the server answered \(status)"))
  }

  @Test(arguments: [
    "SSH-2.0-x\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 101 x\r\nUpgrade: magicalane-path/2\r\n\r\n", "HTTP/1.1 101\n\n", "\u{15}\u{3}\u{3}\0\u{2}",
  ])
  func `what is no answer violates the protocol`(answer: String) {
    guard case .violation = Self.failure(answer) else {
      Issue.record("\(answer) passed")
      return
    }
  }

  @Test(arguments: [PathFrame.query(1), .report(PathReport(number: 2, counts: .zero))])
  func `a query by the server, or a report on nothing, violates the protocol`(frame: PathFrame) throws {
    var exchange = Self.exchange()
    var bytes = ByteBuffer(string: Self.agreed)
    #expect(try exchange.receive(&bytes) == .agreed)
    _ = exchange.query()
    bytes = frame.bytes
    #expect(throws: PathReportError.self) { try exchange.receive(&bytes) }
  }
}

@Suite struct PathReportClientTests {
  let recorded: RecordedChannel
  let seen = Seen()
  let client: PathReportClient
  var channel: EmbeddedChannel { recorded.channel }

  final class Seen {
    var agreed = 0
    var reports: [PathReport] = []
    var ends: [PathReportError] = []
  }

  init() throws {
    recorded = try RecordedChannel()
    let seen = seen
    client = PathReportClient(
      leg: PathReportExchangeTests.leg,
      credentials: nil,
      deadline: .uptimeNanoseconds(1000),
      callbacks: .init(
        agreed: { seen.agreed += 1 },
        report: { seen.reports.append($0) },
        ended: { seen.ends.append($0) }
      )
    )
    try channel.pipeline.syncOperations.addHandler(client)
  }

  private func sent() throws -> ByteBuffer? { try channel.readOutbound(as: ByteBuffer.self) }

  @Test func `the request goes out at once, queries when the server agreed`() throws {
    #expect(
      String(buffer: try #require(try sent())).hasPrefix("GET /.well-known/magicalane/path HTTP/1.1\r\n")
    )
    #expect(client.query() == nil)
    try recorded.send(PathReportExchangeTests.agreed)
    #expect(seen.agreed == 1)
    #expect(client.query() == 1)
    #expect(try sent() == PathFrame.query(1).bytes)
    let report = PathReport(number: 1, counts: PathCounts(sent: 3))
    try channel.writeInbound(PathFrame.report(report).bytes)
    #expect(seen.reports == [report])
    channel.embeddedEventLoop.advanceTime(to: .uptimeNanoseconds(2000))
    #expect(channel.isActive)
  }

  @Test func `no answer at the deadline ends it`() throws {
    channel.embeddedEventLoop.advanceTime(to: .uptimeNanoseconds(1000))
    #expect(seen.ends == [.lost("no answer in time")])
    #expect(!channel.isActive)
  }

  @Test func `a server that lacks reports ends it, without an abort`() throws {
    try recorded.send("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n\r\nbody")
    #expect(seen.ends == [.lacking(status: 405)])
    #expect(!channel.isActive)
    #expect(recorded.outbound.aborts == 0)
  }

  @Test func `garbage ends it with an abort`() throws {
    try recorded.send(PathReportExchangeTests.agreed)
    try channel.writeInbound(ByteBuffer(bytes: [2, 0]))
    guard seen.ends.count == 1, case .violation? = seen.ends.first else {
      Issue.record("\(seen.ends)")
      return
    }
    #expect(recorded.outbound.aborts == 1)
    #expect(client.query() == nil)
  }

  @Test func `the server's end, a lost stream and our own close are each told once`() throws {
    try recorded.send(PathReportExchangeTests.agreed)
    recorded.closeInput()
    channel.close(promise: nil)
    client.close()
    #expect(seen.ends == [.lost("the server ended the stream")])
  }

  @Test func `its owner closes it`() throws {
    client.close()
    #expect(seen.ends == [.closed])
    #expect(!channel.isActive)
  }
}
