import MagicalaneCore
import NIOCore
import Testing

@testable import MagicalaneFrontends

@Suite struct SOCKS5Tests {
  static let open = SOCKS5Handshake(users: nil)
  static let guarded = SOCKS5Handshake(users: .alice)

  static func credentials(_ user: String, _ password: String) -> [UInt8] {
    [1, UInt8(user.utf8.count)] + user.utf8 + [UInt8(password.utf8.count)] + password.utf8
  }

  static func name(_ name: String, port: UInt16 = 443, command: UInt8 = 1) -> [UInt8] {
    [5, command, 0, 3, UInt8(name.utf8.count)] + name.utf8 + [UInt8(port >> 8), UInt8(port & 0xff)]
  }

  static let v4: [UInt8] = [5, 1, 0, 1, 192, 0, 2, 1, 0, 80]
  static let v6: [UInt8] =
    [5, 1, 0, 4, 0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [1, 0x1f, 0x90]

  static let conversations: [(handshake: SOCKS5Handshake, bytes: [UInt8], target: String, user: String?)] = [
    (open, [5, 1, 0] + name("example.com"), "example.com:443", nil),
    (open, [5, 2, 0, 2] + v4, "192.0.2.1:80", nil),
    (open, [5, 1, 0] + v6, "[2001:db8::1]:8080", nil),
    (open, [5, 1, 2] + credentials("", "") + v4, "192.0.2.1:80", nil),
    (guarded, [5, 2, 0, 2] + credentials("alice", "s:ecret") + name("a.b"), "a.b:443", "alice"),
  ]

  @Test func `every cut of a handshake gives the same target, replies and payload`() throws {
    for conversation in Self.conversations {
      let payload = Array("\u{16}payload".utf8)
      let target = try #require(Target(conversation.target))
      let whole = Play(conversation.handshake, conversation.bytes + payload)
      #expect(whole.end == .open(target, user: conversation.user))
      #expect(whole.left == payload)
      for pieces in cuts(of: conversation.bytes + payload) {
        #expect(Play(conversation.handshake, pieces) == whole)
      }
    }
  }

  @Test func `every truncation asks for more`() {
    for conversation in Self.conversations {
      for count in 0..<conversation.bytes.count {
        #expect(Play(conversation.handshake, Array(conversation.bytes[..<count])).end == .wantsMore)
      }
    }
  }

  @Test func `an unfinished message stays in place`() {
    let part: [UInt8] = [5, 3, 0]
    #expect(Play(Self.open, part).left == part)
  }

  @Test func `the replies of the negotiation are those of the RFCs`() {
    #expect(Play(Self.open, [5, 1, 0]).sent == [5, 0])
    #expect(Play(Self.guarded, [5, 2, 0, 2] + Self.credentials("alice", "s:ecret")).sent == [5, 2, 1, 0])
  }

  @Test(arguments: [[5, 1, 0], [5, 0], [5, 2, 0, 1], [5, 1, 0x80]] as [[UInt8]])
  func `where users are set, a client without a password may not come in`(greeting: [UInt8]) {
    let play = Play(Self.guarded, greeting + Self.v4)
    #expect(play.end == .refused)
    #expect(play.sent == [5, 0xff])
  }

  @Test(arguments: [
    ("alice", "secret"), ("alice", ""), ("", "s:ecret"), ("Alice", "s:ecret"), ("bob", "s:ecret"),
  ])
  func `a wrong name or password is refused, and the request behind it is not read`(
    user: String,
    password: String
  ) {
    let play = Play(Self.guarded, [5, 1, 2] + Self.credentials(user, password) + Self.v4)
    #expect(play.end == .refused)
    #expect(play.sent == [5, 2, 1, 1])
    #expect(play.left == Self.v4)
  }

  @Test func `a name that is not UTF-8 is nobody's`() {
    let users = UserList([Credentials(user: "\u{fffd}", password: "x")])
    let play = Play(SOCKS5Handshake(users: users), [5, 1, 2, 1, 1, 0xff, 1, 0x78])
    #expect(play.sent == [5, 2, 1, 1])
    #expect(play.end == .refused)
  }

  @Test func `authentication of an unknown version fails`() {
    let play = Play(Self.guarded, [5, 1, 2, 5])
    #expect(play.sent == [5, 2, 1, 1])
    #expect(play.end == .refused)
  }

  @Test(arguments: ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"])
  func `a name that reads as an address is one`(text: String) throws {
    let host = try #require(Host(text))
    guard case .address = host else { throw OpenError(.failed, "the test's own text is no address") }
    #expect(
      Play(Self.open, [5, 1, 0] + Self.name(text)).end == .open(Target(host: host, port: 443), user: nil)
    )
  }

  @Test(
    arguments: [
      (name("a.b", command: 2), 7),
      (name("", port: 0, command: 3), 7),
      ([5, 1, 0, 2], 8),
      ([5, 1, 0, 0], 8),
      ([4, 1], 1),
      (name("a.b", port: 0), 1),
      ([5, 1, 0, 1, 192, 0, 2, 1, 0, 0], 1),
      (name(""), 4),
      (name("a..b"), 4),
      (name("a b"), 4),
      (name("bücher.example"), 4),
      (name("127.0.0.1\0.example"), 4),
      (name(String(repeating: "a", count: 64)), 4),
    ] as [([UInt8], UInt8)]
  )
  func `a bad request gets the reply for its own fault`(request: [UInt8], code: UInt8) {
    let play = Play(Self.open, [5, 1, 0] + request)
    #expect(play.end == .refused)
    #expect(play.sent == [5, 0] + [5, code, 0, 1, 0, 0, 0, 0, 0, 0])
    #expect(play.left.isEmpty || request.first == 4)
  }

  @Test func `each cause has its own reply code`() {
    let codes: [OpenError.Kind: UInt8] = [
      .refused: 5, .hostUnreachable: 4, .nameNotResolved: 4, .networkUnreachable: 3, .notAllowed: 2,
      .hopLimitExceeded: 6, .timedOut: 6, .credentialsRefused: 1, .unavailable: 1, .protocolViolation: 1,
      .failed: 1,
    ]
    for kind in OpenError.Kind.allCases {
      var handshake = Self.open
      let reply = handshake.refused(OpenError(kind, "")).readableBytesView
      #expect(codes[kind].map { [5, $0, 0, 1, 0, 0, 0, 0, 0, 0] } == Array(reply), "\(kind)")
    }
  }

  @Test func `success is reply 0`() {
    var handshake = Self.open
    #expect(Array(handshake.accepted().readableBytesView) == [5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  }

  @Test func `SOCKS4 is refused in SOCKS4`() {
    let play = Play(Self.open, [4, 1, 0, 80, 192, 0, 2, 1, 0])
    #expect(play.end == .refused)
    #expect(play.sent == [0, 0x5b, 0, 0, 0, 0, 0, 0])
  }

  @Test func `HTTP is refused in HTTP`() {
    let play = Play(Self.open, "CONNECT a.b:443 HTTP/1.1\r\n\r\n")
    #expect(play.end == .refused)
    #expect(play.sentText.hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
    #expect(play.sentText.contains("SOCKS5"))
  }

  @Test func `anything else is refused without a word at its first byte`() {
    for first in UInt8.min...UInt8.max where first != 5 && first != 4 && !(65...90).contains(first) {
      let play = Play(Self.open, [first])
      #expect(play.end == .refused)
      #expect(play.sent.isEmpty)
    }
  }

  @Test func `garbage never holds more than the longest message`() {
    var random = SeededRandom(seed: 1)
    for round in 0..<2000 {
      var bytes = (0..<Int.random(in: 0...1200, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      // A right start now and then, so that all messages are reached.
      let starts: [[UInt8]] = [[], [5], [5, 1, 0, 5, 1, 0], [5, 1, 2], [5, 1, 2, 1]]
      bytes = starts[round % starts.count] + bytes
      let play = Play(round % 2 == 0 ? Self.open : Self.guarded, bytes)
      if play.end == .wantsMore { #expect(play.left.count < 513) }
    }
  }
}
