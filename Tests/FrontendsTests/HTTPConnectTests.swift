import MagicalaneCore
import NIOCore
import Testing

@testable import MagicalaneFrontends

@Suite struct HTTPConnectTests {
  static let open = HTTPConnectHandshake(users: nil)
  static let guarded = HTTPConnectHandshake(users: .alice)
  /// alice:s:ecret
  static let authorization = "Proxy-Authorization: Basic YWxpY2U6czplY3JldA==\r\n"
  static let connect = "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n"

  static func connect(_ target: String = "a.b:443", fields: String = "") -> String {
    "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n\(fields)\r\n"
  }

  static func head(of length: Int) -> String {
    let start = "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\nX: "
    return start + String(repeating: "x", count: length - start.utf8.count - 4) + "\r\n\r\n"
  }

  func status(_ play: Play) -> String {
    String(play.sentText.prefix { $0 != "\r\n" }.dropFirst("HTTP/1.1 ".count))
  }

  @Test(
    arguments: [
      (open, connect, nil), (open, "CONNECT a.b:443 HTTP/1.0\r\n\r\n", nil), (open, "\r\n" + connect, nil),
      (guarded, connect(fields: authorization), "alice"),
    ] as [(HTTPConnectHandshake, String, String?)]
  )
  func `every cut of a head gives the same target and payload`(
    handshake: HTTPConnectHandshake,
    head: String,
    user: String?
  ) throws {
    let target = try #require(Target("a.b:443"))
    let payload = Array("\r\n\r\n\u{16}payload".utf8)
    for pieces in cuts(of: Array(head.utf8) + payload) {
      let play = Play(handshake, pieces)
      #expect(play.end == .open(target, user: user))
      #expect(play.left == payload)
      #expect(play.sent.isEmpty)
    }
  }

  @Test func `every truncation asks for more and takes nothing`() {
    let head = Array(Self.connect.utf8)
    for count in 0..<head.count {
      let play = Play(Self.open, Array(head[..<count]))
      #expect(play.end == .wantsMore)
      #expect(play.left.count == count)
    }
  }

  @Test(arguments: ["example.com:1", "192.0.2.1:65535", "[2001:db8::1]:443", "x_y-z.example.:80"])
  func `a target is host and port`(text: String) throws {
    #expect(Play(Self.open, Self.connect(text)).end == .open(try #require(Target(text)), user: nil))
  }

  @Test(arguments: [
    "a.b", "a.b:", ":443", "a.b:0", "a.b:65536", "a.b:4a", "2001:db8::1:443", "[a.b]:443", "http://a.b:443/",
    "u@a.b:443", "/", "*", "a..b:443", "a.b:-1", "a.b:443/",
  ])
  func `anything else as a target is a bad request`(text: String) {
    let play = Play(Self.open, Self.connect(text))
    #expect(play.end == .refused)
    #expect(status(play) == "400 Bad Request")
  }

  @Test(arguments: [
    "CONNECT a.b:443 HTTP/1.1\nHost: a.b\n\n", "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\rX: y\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n folded\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost : a.b\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n: x\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\nx\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\nX: \0\r\n\r\n", "CONNECT a.b:443 HTTP/1.1\r\n\r\n",
    "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\nHost: a.b\r\n\r\n",
    "CONNECT  a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
    "CONNECT a.b:443\r\n\r\n", "CONNECT a.b:443 HTTP/1.1 \r\nHost: a.b\r\n\r\n", "\r\n\r\n",
    "CONNECT\ta.b:443\tHTTP/1.1\r\nHost: a.b\r\n\r\n", "CONNECT a.b:443 http/1.1\r\nHost: a.b\r\n\r\n",
    "CONN(ECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n", "\u{16}\u{3}\u{1}", "\u{5}\u{1}",
    connect(fields: "Content-Length: 5\r\n"), connect(fields: "Content-Length: 0\r\nContent-Length: 0\r\n"),
    connect(fields: "Content-Length: 00\r\n"), connect(fields: "Transfer-Encoding: chunked\r\n"),
    connect(fields: "transfer-encoding:\r\n"),
  ])
  func `a head that two readers could take differently is a bad request`(head: String) {
    let play = Play(Self.open, head)
    #expect(play.end == .refused)
    #expect(status(play) == "400 Bad Request")
    #expect(play.sentText.contains("\r\nConnection: close\r\n"))
  }

  @Test func `a content length of 0 passes, for there is no doubt`() throws {
    let target = try #require(Target("a.b:443"))
    #expect(Play(Self.open, Self.connect(fields: "Content-Length: 0\r\n")).end == .open(target, user: nil))
  }

  @Test(arguments: ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9"])
  func `an unknown version is named as the fault`(version: String) {
    let play = Play(Self.open, "CONNECT a.b:443 \(version)\r\nHost: a.b\r\n\r\n")
    #expect(play.end == .refused)
    #expect(status(play) == "505 HTTP Version Not Supported")
  }

  @Test func `a head may have 16 KiB and not one byte more`() throws {
    let target = try #require(Target("a.b:443"))
    #expect(Play(Self.open, Self.head(of: 16384)).end == .open(target, user: nil))
    for text in [Self.head(of: 16385), String(repeating: "A", count: 65536)] {
      let play = Play(Self.open, text)
      #expect(play.end == .refused)
      #expect(status(play) == "431 Request Header Fields Too Large")
    }
    #expect(Play(Self.open, String(repeating: "A", count: 16383)).end == .wantsMore)
  }

  @Test(arguments: [
    "GET http://a.b/ HTTP/1.1", "GET / HTTP/1.1", "OPTIONS * HTTP/1.1", "connect a.b:443 HTTP/1.1",
  ])
  func `another method is told what is allowed, and the next request is heard`(line: String) throws {
    let refused = Play(Self.open, "\(line)\r\nHost: a.b\r\n\r\n")
    #expect(refused.end == .wantsMore)
    #expect(status(refused) == "405 Method Not Allowed")
    #expect(refused.sentText.contains("\r\nAllow: CONNECT\r\n"))
    #expect(refused.sentText.contains("--proxytunnel"))
    #expect(!refused.sentText.contains("Connection: close"))
    let again = Play(Self.open, ["\(line)\r\nHost: a.b\r\n\r\n", Self.connect].map { Array($0.utf8) })
    #expect(again.end == .open(try #require(Target("a.b:443")), user: nil))
  }

  @Test func `an answer to HEAD has no body`() {
    let play = Play(Self.open, "HEAD / HTTP/1.1\r\nHost: a.b\r\n\r\n")
    #expect(play.sentText.hasSuffix("\r\n\r\n"))
    #expect(play.sentText.contains("\r\nContent-Length: "))
  }

  @Test func `the body is as long as the response says`() throws {
    for request in ["GET / HTTP/1.1\r\nHost: a.b\r\n\r\n", "x\r\n\r\n", Self.connect] {
      let parts = Play(Self.guarded, request).sentText.split(separator: "\r\n\r\n", maxSplits: 1)
      let length = try #require(parts[0].split(separator: "\r\n").first { $0.hasPrefix("Content-Length: ") })
      #expect(length.dropFirst("Content-Length: ".count) == "\(parts[1].utf8.count)")
    }
  }

  @Test(arguments: [
    "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: keep-alive, Close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.b\r\n\r\n" + connect,
  ])
  func `the connection closes where the next request could not be told apart`(request: String) {
    let play = Play(Self.open, request)
    #expect(play.end == .refused)
    #expect(status(play) == "405 Method Not Allowed")
    #expect(play.sentText.contains("\r\nConnection: close\r\n"))
  }

  @Test(arguments: [
    "", "Proxy-Authorization: Basic\r\n", "Proxy-Authorization: Basic !!!\r\n",
    "Proxy-Authorization: Basic YWxpY2U=\r\n", "Proxy-Authorization: Bearer YWxpY2U6czplY3JldA==\r\n",
    "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n", authorization + authorization,
    "Authorization: Basic YWxpY2U6czplY3JldA==\r\n",
  ])
  func `without the right password a client is asked for it`(fields: String) throws {
    let play = Play(Self.guarded, Self.connect(fields: fields))
    #expect(play.end == .wantsMore)
    #expect(status(play) == "407 Proxy Authentication Required")
    #expect(
      play.sentText.contains("\r\nProxy-Authenticate: Basic realm=\"magicalane\", charset=\"UTF-8\"\r\n")
    )
    let again = [Self.connect(fields: fields), Self.connect(fields: Self.authorization)].map {
      Array($0.utf8)
    }
    #expect(Play(Self.guarded, again).end == .open(try #require(Target("a.b:443")), user: "alice"))
  }

  @Test func `the scheme's name is compared without case`() throws {
    let fields = "proxy-authorization: bASIC  YWxpY2U6czplY3JldA==\r\n"
    #expect(
      Play(Self.guarded, Self.connect(fields: fields)).end
        == .open(try #require(Target("a.b:443")), user: "alice")
    )
  }

  @Test func `payload sent before the 407 is never read as a request`() {
    let play = Play(Self.guarded, Self.connect + Self.connect(fields: Self.authorization))
    #expect(play.end == .refused)
    #expect(status(play) == "407 Proxy Authentication Required")
  }

  @Test func `a client has a few tries and no more`() {
    let attempt = Array(Self.connect.utf8)
    let tries = HTTPConnectHandshake.retries
    #expect(Play(Self.guarded, Array(repeating: attempt, count: tries)).end == .wantsMore)
    let last = Play(Self.guarded, Array(repeating: attempt, count: tries + 1))
    #expect(last.end == .refused)
    #expect(last.sentText.components(of: "HTTP/1.1 407 ") == tries + 1)
    #expect(last.sentText.components(of: "Connection: close") == 1)
  }

  static let leg = LegID("0123456789abcdef0123456789ABCDEF")

  static func reports(
    _ fields: String,
    line: String = "GET /.well-known/magicalane/path HTTP/1.1"
  ) -> String {
    "\(line)\r\nHost: a.b\r\n\(fields)\r\n"
  }

  static let upgrade = "Connection: keep-alive, upgrade\r\nUpgrade: magicalane-path/1\r\n"
  static let legField = "Magicalane-Leg: 0123456789abcdef0123456789ABCDEF\r\n"

  @Test func `a leg that a CONNECT request names is told`() throws {
    let known: [(String, LegID?)] = [
      (Self.legField, Self.leg), ("", nil), ("Magicalane-Leg: 0123\r\n", nil),
      (Self.legField + Self.legField, nil), ("Magicalane-Leg: \(String(repeating: "g", count: 32))\r\n", nil),
    ]
    for (fields, leg) in known {
      var handshake = Self.open
      var bytes = ByteBuffer(string: Self.connect(fields: fields))
      guard case .open = handshake.receive(&bytes) else {
        Issue.record("\(fields) is refused")
        continue
      }
      #expect(handshake.leg == leg)
    }
  }

  @Test func `a request for reports is an upgrade, and what is behind it is left`() throws {
    let leg = try #require(Self.leg)
    let request = Self.reports(Self.upgrade + Self.legField)
    let play = Play(Self.open, request + "\u{1}\u{1}\u{1}")
    #expect(play.end == .report(leg, user: nil))
    #expect(play.left == [1, 1, 1])
    var handshake = Self.open
    var bytes = ByteBuffer(string: request)
    _ = handshake.receive(&bytes)
    #expect(
      String(buffer: handshake.accepted())
        == "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: magicalane-path/1\r\n\r\n"
    )
  }

  @Test func `reports want the password that CONNECT wants`() throws {
    let leg = try #require(Self.leg)
    let request = Self.reports(Self.upgrade + Self.legField + Self.authorization)
    #expect(Play(Self.guarded, request).end == .report(leg, user: "alice"))
    let refused = Play(Self.guarded, Self.reports(Self.upgrade + Self.legField))
    #expect(refused.end == .wantsMore)
    #expect(status(refused) == "407 Proxy Authentication Required")
  }

  @Test(arguments: [
    reports(""), reports(legField), reports("Upgrade: magicalane-path/1\r\n" + legField),
    reports("Connection: Upgrade\r\n" + legField),
    reports("Connection: Upgrade\r\nUpgrade: websocket\r\n" + legField),
    reports(upgrade + legField, line: "GET /.well-known/magicalane/path HTTP/1.0"),
  ])
  func `without an upgrade there are no reports`(request: String) {
    let play = Play(Self.open, request)
    #expect(play.end == .refused)
    #expect(status(play) == "426 Upgrade Required")
    #expect(play.sentText.contains("\r\nUpgrade: magicalane-path/1\r\n"))
    #expect(play.sentText.contains("\r\nConnection: Upgrade, close\r\n"))
  }

  @Test(arguments: [
    upgrade, upgrade + "Magicalane-Leg: 0123\r\n", upgrade + legField + legField,
    upgrade + legField + "Content-Length: 5\r\n",
  ])
  func `without one valid leg, or with content, a request for reports is bad`(fields: String) {
    let play = Play(Self.open, Self.reports(fields))
    #expect(play.end == .refused)
    #expect(status(play) == "400 Bad Request")
  }

  @Test func `another method on the path of reports is told what is allowed`() {
    let request = Self.reports(
      Self.upgrade + Self.legField,
      line: "POST /.well-known/magicalane/path HTTP/1.1"
    )
    #expect(status(Play(Self.open, request)) == "405 Method Not Allowed")
  }

  @Test func `success has no framing fields`() {
    var handshake = Self.open
    #expect(String(buffer: handshake.accepted()) == "HTTP/1.1 200 Connection established\r\n\r\n")
  }

  @Test func `each cause has its own status`() {
    let statuses: [OpenError.Kind: String] = [
      .refused: "502 Bad Gateway", .hostUnreachable: "502 Bad Gateway", .nameNotResolved: "502 Bad Gateway",
      .networkUnreachable: "502 Bad Gateway", .notAllowed: "403 Forbidden",
      .hopLimitExceeded: "502 Bad Gateway",
      .timedOut: "504 Gateway Timeout", .credentialsRefused: "502 Bad Gateway",
      .unavailable: "503 Service Unavailable", .protocolViolation: "502 Bad Gateway",
      .failed: "502 Bad Gateway",
    ]
    for kind in OpenError.Kind.allCases {
      var handshake = Self.open
      let reply = String(buffer: handshake.refused(OpenError(kind, "why")))
      #expect(statuses[kind].map { reply.hasPrefix("HTTP/1.1 \($0)\r\n") } == true, "\(kind)")
      #expect(reply.contains("\r\nProxy-Status: magicalane; error=\(kind.httpFailure.error)"))
      #expect(reply.contains("; details=\"why\"\r\n"))
    }
  }

  @Test func `text in an error cannot break out of the head`() {
    var handshake = Self.open
    let reply = String(buffer: handshake.refused(OpenError(.failed, "a\"b\\c\r\nX: y\u{e9}")))
    #expect(reply.contains("details=\"a\\\"b\\\\c??X: y?\"\r\n"))
  }

  @Test func `garbage never holds more than a head`() {
    var random = SeededRandom(seed: 2)
    let words = [
      "CONNECT ", "a.b:443", " HTTP/1.1", "\r\n", "\r", "\n", ":", " ", "Host: a", "\0", "\u{fe}", "GET / ",
    ]
    for _ in 0..<3000 {
      let text = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        words.randomElement(using: &random) ?? ""
      }
      let play = Play(Self.open, text.joined())
      if play.end == .wantsMore { #expect(play.left.count < 16384) }
      let bytes = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(Play(Self.open, bytes).end == .refused)
    }
  }
}

extension String {
  /// How often a text stands in this one.
  fileprivate func components(of text: String) -> Int {
    ranges(of: text).count
  }
}
