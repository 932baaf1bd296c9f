import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct HTTPHeadTests {
  @Test func `a head is its start line and its fields, without the white space around values`() throws {
    var reader = HTTPHeadReader()
    var bytes = ByteBuffer(string: "\r\nstart line\r\nA: \t one two\t \r\na:\r\nB:x:y\r\n\r\nrest")
    let head = try #require(try reader.read(&bytes))
    #expect(head.startLine == "start line")
    #expect(head.fields.map(\.name) == ["A", "a", "B"])
    #expect(head.values(of: "a") == ["one two", ""])
    #expect(head.values(of: "b") == ["x:y"])
    #expect(String(buffer: bytes) == "rest")
  }

  @Test func `one reader takes heads that follow each other`() throws {
    var reader = HTTPHeadReader()
    var bytes = ByteBuffer(string: "one\r\nA: b\r\n\r\ntwo\r\n\r\n")
    #expect(try reader.read(&bytes)?.startLine == "one")
    let second = try #require(try reader.read(&bytes))
    #expect(second.startLine == "two")
    #expect(second.fields.isEmpty)
    #expect(try reader.read(&bytes) == nil)
  }

  @Test func `a bad byte is refused when it comes, not when the head is complete`() {
    var reader = HTTPHeadReader()
    var bytes = ByteBuffer(string: "start\r\nA: \u{1}")
    #expect(throws: HTTPHeadError.self) { try reader.read(&bytes) }
  }

  @Test func `the limit counts all bytes of the head`() throws {
    for (length, fits) in [(HTTPHeadReader.limit, true), (HTTPHeadReader.limit + 1, false)] {
      var reader = HTTPHeadReader()
      var bytes = ByteBuffer(string: String(repeating: "x", count: length - 4) + "\r\n\r\n")
      if fits {
        #expect(try reader.read(&bytes) != nil)
      } else {
        #expect(throws: HTTPHeadError.tooLarge) { try reader.read(&bytes) }
      }
    }
  }
}

@Suite struct BasicCredentialsTests {
  @Test func `what is written is read again`() throws {
    for (user, password) in [
      ("alice", "s:ecret"), ("", ""), ("jörg", "пароль:"), ("a", String(repeating: "x", count: 300)),
    ] {
      let credentials = Credentials(user: user, password: password)
      #expect(Credentials(basicAuthorization: credentials.basicAuthorization) == credentials)
    }
  }

  @Test(arguments: [
    "", "Basic", "Basic ", "Basic YQ==", "Basic a:b", "Digest YTpi", "Basic YTpi YTpi", "Basic //86",
  ])
  func `anything else is no credentials`(value: String) {
    #expect(Credentials(basicAuthorization: value) == nil)
  }
}

@Suite struct ProxyStatusTests {
  @Test func `what is written is read again`() {
    let statuses = [
      ProxyStatus(proxy: "p"), ProxyStatus(proxy: "p", error: "dns_error"),
      ProxyStatus(proxy: "p", error: "e", cause: "c", details: "a \"quoted\" \\ text, with; = all"),
    ]
    for status in statuses { #expect(ProxyStatus.parse(["\(status)"]) == [status]) }
    #expect(ProxyStatus.parse(statuses.map(\.description)) == statuses)
  }

  @Test func `details are cut and hold no byte that a string may not`() {
    let status = ProxyStatus(proxy: "p", details: "\r\né" + String(repeating: "x", count: 1000))
    #expect(status.description == "p; details=\"???" + String(repeating: "x", count: 253) + "\"")
  }

  @Test func `parameters of other proxies are passed over`() {
    let line = "\"a proxy\";received-status=502;next-hop=h.example;x=?1;y=:YQ==:;flag;  error=dns_error , q"
    #expect(
      ProxyStatus.parse([line]) == [
        ProxyStatus(proxy: "a proxy", error: "dns_error"), ProxyStatus(proxy: "q"),
      ]
    )
  }

  @Test(arguments: [
    "p; error=", "p; =x", "p,", ", p", "p q", "\"p", "p; details=\"a\\b\"", "p; details=\"é\"", "p; E=x", ";",
  ])
  func `a field that breaks the syntax says nothing`(line: String) {
    #expect(ProxyStatus.parse([line]).isEmpty)
  }
}
