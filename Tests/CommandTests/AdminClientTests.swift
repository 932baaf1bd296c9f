import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Testing

@testable import MagicalaneCommand

@Suite struct AdminAddressTests {
  @Test(arguments: [
    ("127.0.0.1:9090", "127.0.0.1:9090"), ("[::1]:1", "[::1]:1"),
    ("admin.example:65535", "admin.example:65535"),
    ("unix:/run/lane.sock", "localhost"),
  ])
  func `an address prints as it was written and has an authority`(text: String, authority: String) throws {
    let address = try AdminAddress(text)
    #expect(address.description == text)
    #expect(address.authority == authority)
  }

  @Test(arguments: [
    "", "9090", "host", "host:", "host:0", "host:65536", "http://127.0.0.1:9090", "unix:", "unix:/",
    "unix:lane.sock",
    "unix:/a\0b", "::1:9090",
  ])
  func `what is no address is refused`(text: String) {
    #expect(throws: AdminAddress.Invalid.form(text)) { try AdminAddress(text) }
  }

  @Test func `a path that no socket address can hold is refused`() throws {
    let path = "/" + String(repeating: "a", count: 106)
    #expect(try AdminAddress("unix:\(path)") == .unix(path: path))
    #expect(throws: AdminAddress.Invalid.tooLong(path + "a")) { try AdminAddress("unix:\(path)a") }
  }
}

@Suite struct AdminCommandLineTests {
  @Test(arguments: [
    ["status", "--admin", "9090"], ["sessions", "--limit", "0"], ["sessions", "--limit", "1001"],
    ["sessions", "--state", "closed"], ["sessions", "--sort", "name"], ["sessions", "--interval", "1"],
    ["sessions", "--interval", "99ms"], ["sessions", "--end", "x"], ["sessions", "--end", "1", "--watch"],
    ["sessions", "--end", "1", "--user", "a"], ["reload", "now"],
  ])
  func `a wrong argument is refused`(arguments: [String]) {
    #expect(throws: (any Error).self) { try Magicalane.parseAsRoot(arguments) }
  }

  @Test func `filters become the query of the request`() throws {
    let command = try Magicalane.parseAsRoot([
      "sessions", "--frontend", "socks", "--transport", "tokyo", "--user", "a&b", "--target", ":443",
      "--state", "open", "--sort", "-bytes", "--limit", "5",
    ])
    let sessions = try #require(command as? SessionsCommand)
    #expect(
      sessions.filter.request.target
        == "/v1/sessions?frontend=socks&transport=tokyo&user=a%26b&target=%3A443&state=open&sort=-bytes&limit=5"
    )
    let plain = try #require(try Magicalane.parseAsRoot(["sessions"]) as? SessionsCommand)
    #expect(plain.filter.request.target == "/v1/sessions")
    #expect(plain.admin.admin.description == "127.0.0.1:9090")
  }

  @Test(arguments: [("secret", "secret"), ("  secret\r\n", "secret")])
  func `a token is read without the space around it`(text: String, token: String) throws {
    #expect(try AdminToken.read(text, from: "file") == token)
  }

  @Test(arguments: ["", " \n", "two words", "a\r\nX-Header: b", "tökén", String(repeating: "a", count: 4097)])
  func `what is no token is refused without being told`(text: String) throws {
    let failure = #expect(throws: Failure.self) { try AdminToken.read(text, from: "file") }
    #expect(failure?.status == 2)
    #expect(
      failure?.message == "file holds no token: expected one line of ASCII characters without spaces"
    )
  }
}

@Suite struct AdminProblemTests {
  private func lines(_ json: String) throws -> [String] {
    let answer = AdminAnswer(
      status: .unprocessableEntity,
      contentType: "Application/Problem+JSON; charset=utf-8",
      body: ByteBuffer(string: json)
    )
    return try #require(AdminProblem(answer)).lines
  }

  @Test func `each fault stands on a line with its place and its pointer`() throws {
    let json = """
      {"type": "urn:magicalane:problem:invalid-config", "title": "The config is invalid", "status": 422,
       "detail": "2 faults", "step": "validate", "errors": [
         {"detail": "expected a path", "pointer": "#/tls", "config_pointer": "#/frontends/0/tls", "line": 3, "column": 9},
         {"detail": "unknown key", "config_pointer": "#/foo"}]}
      """
    #expect(
      try lines(json) == [
        "The config is invalid (step: validate)", "2 faults", "3:9: expected a path (#/tls)",
        "unknown key (#/foo)",
      ]
    )
  }

  @Test func `nothing is said twice, and places in the detail are kept`() throws {
    let json = #"""
      {"title": "The config is invalid", "detail": "a.yaml:3:5: 'x' is missing\na.yaml:9:1: unknown key 'y'",
       "errors": [{"detail": "a.yaml:3:5: 'x' is missing", "config_pointer": "#/x"}, {"detail": "unknown key 'y'"}]}
      """#
    #expect(
      try lines(json) == [
        "The config is invalid", "a.yaml:9:1: unknown key 'y'", "a.yaml:3:5: 'x' is missing",
      ]
    )
  }

  @Test func `a detail that is the first of the faults is not said apart from them`() throws {
    let json = #"""
      {"title": "The config is invalid", "detail": "a.yaml:3:5: 'x' is missing (and 1 more)",
       "errors": [{"detail": "a.yaml:3:5: 'x' is missing"}, {"detail": "a.yaml:9:1: unknown key 'y'"}]}
      """#
    #expect(
      try lines(json) == [
        "The config is invalid", "a.yaml:3:5: 'x' is missing", "a.yaml:9:1: unknown key 'y'",
      ]
    )
  }

  @Test func `a problem cannot steer the terminal`() throws {
    let json =
      #"{"title": "a\u001b[2Jb", "detail": "c\rd", "errors": [{"detail": "e\nf", "pointer": "\u009b"}]}"#
    #expect(try lines(json) == ["a\\u{1b}[2Jb", "c\\u{d}d", "e\\u{a}f (\\u{9b})"])
  }

  @Test func `what is no problem document is told by its status`() {
    let answer = AdminAnswer(status: .notFound, contentType: "text/html", body: ByteBuffer(string: "<p>"))
    #expect(AdminProblem(answer) == nil)
    #expect(
      AdminClientError.refused(answer).message(.standard, hasToken: false)
        == "127.0.0.1:9090 answered 404 Not Found; is it magicalane that listens there?"
    )
  }

  @Test func `an answer that asks for a token says how to give it`() {
    let refused = AdminClientError.refused(AdminAnswer(status: .unauthorized, body: ByteBuffer()))
    let without = refused.message(.standard, hasToken: false)
    #expect(without.contains("--token-file FILE") && without.contains("MAGICALANE_ADMIN_TOKEN"))
    #expect(refused.message(.standard, hasToken: true).contains("does not take this token"))
  }
}

@Suite struct AdminClientTests {
  private func client(_ server: OneAnswer, token: String? = nil) throws -> AdminClient {
    AdminClient(address: server.address, token: token)
  }

  @Test(arguments: [false, true])
  func `a request carries host, token and query, over TCP and over a Unix socket`(isUnix: Bool) async throws {
    let server = try await OneAnswer.start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", isUnix: isUnix)
    let client = try client(server, token: "secret")
    let body = try await client.body(
      AdminRequest(method: .POST, path: "/v1/config/reload", query: [("dry_run", "true")])
    )
    #expect(String(buffer: body) == "{}")
    let lines = try await server.request.get().components(separatedBy: "\r\n")
    #expect(lines.first == "POST /v1/config/reload?dry_run=true HTTP/1.1")
    #expect(lines.contains { $0.lowercased() == "host: \(server.address.authority)" })
    #expect(lines.contains { $0.lowercased() == "authorization: bearer secret" })
    #expect(lines.contains { $0.lowercased() == "content-length: 0" })
    try await server.stop()
  }

  @Test func `an answer in chunks is put together, and one without a body is empty`() async throws {
    let chunked = try await OneAnswer.start(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    #expect(String(buffer: try await client(chunked).body(AdminRequest(path: "/"))) == "abcde")
    try await chunked.stop()
    let empty = try await OneAnswer.start("HTTP/1.1 204 No Content\r\n\r\n")
    #expect(try await client(empty).body(AdminRequest(method: .DELETE, path: "/")).readableBytes == 0)
    try await empty.stop()
  }

  @Test func `a refusal keeps its status and its body`() async throws {
    let server = try await OneAnswer.start(
      "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 13\r\n\r\n{\"title\":\"x\"}"
    )
    await expectFailure(try client(server)) { error in
      guard case .refused(let answer) = error else { return false }
      return answer.status == .notFound && AdminProblem(answer)?.title == "x"
    }
    try await server.stop()
  }

  @Test(arguments: [
    "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\n",
  ])
  func `an answer that ends early or is no HTTP is broken off`(bytes: String) async throws {
    let server = try await OneAnswer.start(bytes)
    await expectFailure(try client(server)) { if case .brokenOff = $0 { true } else { false } }
    try await server.stop()
  }

  @Test func `a body over the limit is refused, one at the limit is not`() async throws {
    let bytes = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678"
    let first = try await OneAnswer.start(bytes)
    var client = try client(first)
    client.longestBody = 8
    #expect(try await client.body(AdminRequest(path: "/")).readableBytes == 8)
    try await first.stop()
    let second = try await OneAnswer.start(bytes)
    client.address = second.address
    client.longestBody = 7
    await expectFailure(client) { if case .tooLong(7) = $0 { true } else { false } }
    try await second.stop()
  }

  @Test func `a silent program is given up`() async throws {
    let server = try await OneAnswer.start(nil)
    var client = try client(server)
    client.timeout = .milliseconds(50)
    await expectFailure(client) { if case .timedOut = $0 { true } else { false } }
    try await server.stop()
  }

  @Test func `a cancelled request ends at once`() async throws {
    let server = try await OneAnswer.start(nil)
    var client = try client(server)
    client.timeout = .hours(1)
    let asking = Task { [client] in try await client.body(AdminRequest(path: "/")) }
    _ = try await server.request.get()
    asking.cancel()
    await #expect(throws: CancellationError.self) { try await asking.value }
    try await server.stop()
  }

  @Test func `where nobody listens the message names the address and what to check`() async throws {
    let server = try await OneAnswer.start(nil)
    try await server.stop()
    await expectFailure(try client(server)) { error in
      guard case .cannotConnect(reason: "connection refused") = error else { return false }
      let message = error.message(server.address, hasToken: false)
      return ["\(server.address)", "running", "admin:", "--admin"].allSatisfy(message.contains)
    }
    await expectFailure(AdminClient(address: .unix(path: "/nowhere/lane.sock"))) { error in
      guard case .cannotConnect(reason: "no such file or directory") = error else { return false }
      return true
    }
  }

  private func expectFailure(
    _ client: AdminClient,
    _ isExpected: (AdminClientError) -> Bool,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async {
    let error = await #expect(throws: AdminClientError.self, sourceLocation: sourceLocation) {
      try await client.body(AdminRequest(path: "/"))
    }
    guard let error else { return }
    #expect(isExpected(error), "\(error)", sourceLocation: sourceLocation)
  }
}

/// Listens, takes one request head and writes the given bytes as its answer, whatever they are.
private struct OneAnswer {
  let address: AdminAddress
  private let head: EventLoopPromise<String>
  private let listener: any Channel

  /// - Parameter bytes: nil where the connection stays open without an answer.
  static func start(_ bytes: String?, isUnix: Bool = false) async throws -> OneAnswer {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let head = loop.makePromise(of: String.self)
    let bootstrap = ServerBootstrap(group: loop).childChannelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(Answering(bytes, head))
      }
    }
    if isUnix {
      let path = NSTemporaryDirectory() + "lane-\(UInt32.random(in: .min ... .max)).sock"
      let listener = try await bootstrap.bind(unixDomainSocketPath: path).get()
      return OneAnswer(
        address: try AdminAddress("unix:\(path)"),
        head: head,
        listener: listener
      )
    }
    let listener = try await bootstrap.bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(listener.localAddress?.port)
    return OneAnswer(
      address: try AdminAddress("127.0.0.1:\(port)"),
      head: head,
      listener: listener
    )
  }

  /// The head that came.
  var request: EventLoopFuture<String> { head.futureResult }

  func stop() async throws {
    // Of no effect where a head came.
    head.fail(ChannelError.eof)
    try await listener.close()
  }

  private final class Answering: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let bytes: String?
    private let request: EventLoopPromise<String>
    private var received = ""

    init(_ bytes: String?, _ request: EventLoopPromise<String>) {
      self.bytes = bytes
      self.request = request
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      received += String(buffer: unwrapInboundIn(data))
      guard received.hasSuffix("\r\n\r\n") else { return }
      request.succeed(received)
      guard let bytes else { return }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: bytes)), promise: nil)
      context.close(promise: nil)
    }
  }
}
