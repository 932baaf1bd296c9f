import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct ConnectExchangeTests {
  static let ok = "HTTP/1.1 200 Connection established\r\n\r\n"

  static func exchange(_ target: String = "a.b:443", _ credentials: Credentials? = nil) throws
    -> ConnectExchange
  {
    ConnectExchange(target: try #require(Target(target)), credentials: credentials)
  }

  /// The error that the answer ends in; nil where it succeeds or asks for more.
  static func failure(_ answer: String) throws -> OpenError? {
    var exchange = try exchange()
    var bytes = ByteBuffer(string: answer)
    do throws(OpenError) {
      _ = try exchange.receive(&bytes)
      return nil
    } catch {
      return error
    }
  }

  @Test func `the request names the target twice and ends`() throws {
    let request = String(buffer: try Self.exchange("[2001:db8::1]:443").request)
    #expect(request == "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n")
  }

  @Test func `the leg that a request belongs to is named`() throws {
    let leg = LegID()
    let exchange = ConnectExchange(target: try #require(Target("a.b:1")), credentials: nil, leg: leg)
    #expect(String(buffer: exchange.request).hasSuffix("\r\nMagicalane-Leg: \(leg)\r\n\r\n"))
  }

  @Test func `credentials travel as Basic`() throws {
    let exchange = try Self.exchange("a.b:1", Credentials(user: "alice", password: "s:ecret"))
    #expect(
      String(buffer: exchange.request).contains("\r\nProxy-Authorization: Basic YWxpY2U6czplY3JldA==\r\n")
    )
  }

  @Test(arguments: [
    ok, "HTTP/1.0 200 OK\r\nX: y\r\n\r\n", "HTTP/1.1 299\r\n\r\n",
    "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + ok,
  ])
  func `every cut of an answer succeeds and leaves the payload`(answer: String) throws {
    let all = Array(answer.utf8) + Array("\r\n\r\npayload".utf8)
    for cut in 0...all.count {
      var exchange = try Self.exchange()
      var bytes = ByteBuffer(bytes: all[..<cut])
      let early = try exchange.receive(&bytes)
      #expect(early == (cut >= answer.utf8.count))
      bytes.writeBytes(all[cut...])
      if !early { #expect(try exchange.receive(&bytes)) }
      #expect(String(buffer: bytes) == "\r\n\r\npayload")
    }
  }

  @Test(arguments: [
    "SSH-2.0-x\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n",
    "HTTP/1.1 200 OK\nX: y\n\n", "\u{15}\u{3}\u{3}\0\u{2}", "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
    String(repeating: "x", count: 16384),
  ])
  func `what is no HTTP answer violates the protocol`(answer: String) throws {
    #expect(try Self.failure(answer)?.kind == .protocolViolation)
  }

  @Test(
    arguments: [
      (407, "", .credentialsRefused), (407, "p; error=http_request_denied", .credentialsRefused),
      (403, "", .notAllowed), (502, "", .failed), (503, "", .unavailable), (504, "", .timedOut),
      (429, "", .unavailable),
      (400, "", .failed), (302, "", .failed), (502, "p; error=unheard_of", .failed),
      (503, "p; error=unheard_of", .unavailable),
      (500, "p; error=dns_error; rcode=NXDOMAIN", .nameNotResolved),
      (502, "p; error=dns_timeout", .timedOut), (502, "p; error=destination_ip_prohibited", .notAllowed),
      (502, "p; error=destination_ip_unroutable", .hostUnreachable),
      (502, "p; error=destination_ip_unroutable; cause=later", .hostUnreachable),
      (502, "p; error=proxy_configuration_error", .failed),
      (502, "p; error=connection_refused; cause=later", .refused),
      (502, "near; error=connection_refused, far; error=proxy_internal_error", .refused),
      (502, "near; next-hop=\"x\", far; error=connection_timeout", .timedOut),
      (502, "p; error=\"connection_refused", .failed),
    ] as [(Int, String, OpenError.Kind)]
  )
  func `a failure's cause comes from Proxy-Status, else from the status`(
    status: Int,
    proxyStatus: String,
    kind: OpenError.Kind
  ) throws {
    let answer = "HTTP/1.1 \(status) x\r\nproxy-status: \(proxyStatus)\r\nContent-Length: 5\r\n\r\n"
    #expect(try Self.failure(answer)?.kind == kind)
  }

  @Test func `what the server said is in the message`() throws {
    let answer =
      "HTTP/1.1 502 x\r\nProxy-Status: p; error=dns_error; details=\"no \\\"such\\\" name\"\r\n\r\n"
    let message = try #require(try Self.failure(answer)?.message)
    #expect(message.hasSuffix("502: dns_error: no \"such\" name"))
  }
}
