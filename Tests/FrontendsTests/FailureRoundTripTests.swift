import NIOCore
import Testing

@testable import MagicalaneCore
@testable import MagicalaneFrontends

@Suite struct FailureRoundTripTests {
  @Test(arguments: OpenError.Kind.allCases)
  func `each kind that a server answers with arrives as itself, with its words`(kind: OpenError.Kind) throws {
    var server = HTTPConnectHandshake(users: nil)
    var client = ConnectExchange(target: try #require(Target("a.b:443")), credentials: nil)
    var answer = server.refused(OpenError(kind, "it \"was\" so"))
    let error = #expect(throws: OpenError.self) { try client.receive(&answer) }
    #expect(error?.kind == kind)
    #expect(error?.message.hasSuffix("it \"was\" so") == true)
  }

  @Test func `a server that wants other credentials is told apart`() throws {
    let target = try #require(Target("a.b:443"))
    var client = ConnectExchange(target: target, credentials: Credentials(user: "alice", password: "wrong"))
    let play = Play(HTTPConnectHandshake(users: .alice), Array(client.request.readableBytesView))
    var answer = ByteBuffer(bytes: play.sent)
    let error = #expect(throws: OpenError.self) { try client.receive(&answer) }
    #expect(error?.kind == .credentialsRefused)
  }

  @Test func `the client's request is one that the server takes`() throws {
    let target = try #require(Target("[2001:db8::1]:443"))
    var client = ConnectExchange(target: target, credentials: Credentials(user: "alice", password: "s:ecret"))
    var server = HTTPConnectHandshake(users: .alice)
    let play = Play(server, Array(client.request.readableBytesView))
    #expect(play.end == .open(target, user: "alice"))
    var answer = server.accepted()
    #expect(try client.receive(&answer))
    #expect(answer.readableBytes == 0)
  }
}
