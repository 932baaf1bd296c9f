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
