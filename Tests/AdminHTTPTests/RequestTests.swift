import Testing

@testable import MagicalaneAdminHTTP

@Test func `a target splits before it is decoded, so an escaped slash stays inside its segment`() throws {
  let target = try #require(RequestTarget("/v1/frontends/a%2Fb%20c?x=1&y=a+b%26&flag&x=2"))
  #expect(target.segments == ["v1", "frontends", "a/b c"])
  #expect(
    target.query == [
      .init(name: "x", value: "1"), .init(name: "y", value: "a b&"), .init(name: "flag", value: ""),
      .init(name: "x", value: "2"),
    ]
  )
  #expect(target.authority == nil)
}

@Test func `the absolute form gives the authority`() throws {
  let target = try #require(RequestTarget("HTTP://Example:9090/v1?a=b"))
  #expect(target.authority == "Example:9090")
  #expect(target.path == "/v1")
  #expect(RequestTarget("http://h?q")?.segments == [])
}

@Test(arguments: ["", "*", "host:443", "/%", "/%4", "/%zz", "/%ff", "/?a=%", "/?%=1", "ftp://h/"])
func `a malformed target is none`(text: String) {
  #expect(RequestTarget(text) == nil)
}

@Test func `slashes at the end and in a row leave empty segments`() {
  #expect(RequestTarget("/")?.segments == [])
  #expect(RequestTarget("/v1/")?.segments == ["v1", ""])
  #expect(RequestTarget("//v1")?.segments == ["", "v1"])
}

@Test func `field names compare without case, and lines of one name join`() {
  var fields: HTTPFields = ["Accept": "a/b", "ACCEPT": "c/d", "Host": "x"]
  #expect(fields["accept"] == "a/b, c/d")
  #expect(fields.values("Accept") == ["a/b", "c/d"])
  fields["accept"] = "e/f"
  #expect(fields.values("ACCEPT") == ["e/f"])
  fields["accept"] = nil
  #expect(fields["accept"] == nil)
}

@Test func `framing is none, a length or chunked`() throws {
  #expect(try RequestFraming([:]) == .none)
  #expect(try RequestFraming(["Content-Length": "0"]) == .none)
  #expect(try RequestFraming(["Content-Length": "5"]) == .length(5))
  #expect(try RequestFraming(["Transfer-Encoding": "Chunked"]) == .chunked)
}

@Test(
  arguments: [
    (["Content-Length": "5", "Transfer-Encoding": "chunked"], 400),
    (["Content-Length": "5", "content-length": "5"], 400),
    (["Content-Length": "-5"], 400),
    (["Content-Length": "+5"], 400),
    (["Content-Length": "5, 5"], 400),
    (["Host": "a", "host": "b"], 400),
    (["Transfer-Encoding": "gzip"], 501),
    (["Transfer-Encoding": "gzip, chunked"], 501),
    (["Transfer-Encoding": "chunked", "transfer-encoding": "chunked"], 501),
  ] as [(HTTPFields, Int)]
)
func `ambiguous or unknown framing is refused`(headers: HTTPFields, status: Int) {
  let problem = #expect(throws: Problem.self) { try RequestFraming(headers) }
  #expect(problem?.status == status)
}

@Test func `an event is a block of fields`() {
  let event = ServerSentEvent(id: "7", event: "opened", data: "{\"a\":1}", retry: 1000)
  #expect(
    String(decoding: event.bytes, as: UTF8.self)
      == "retry: 1000\nid: 7\nevent: opened\ndata: {\"a\":1}\n\n"
  )
}

@Test func `line ends in an event cannot start a field of their own`() {
  let event = ServerSentEvent(id: "1\ndata: x", event: "a\r\nb", data: "one\r\ntwo\rthree\nfour")
  #expect(
    String(decoding: event.bytes, as: UTF8.self)
      == "id: 1data: x\nevent: ab\ndata: one\ndata: two\ndata: three\ndata: four\n\n"
  )
  #expect(String(decoding: ServerSentEvent(data: "").bytes, as: UTF8.self) == "data: \n\n")
}
