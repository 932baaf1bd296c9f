import Testing

@testable import MagicalaneCommand

@Suite struct TextTests {
  @Test(arguments: [
    ("plain host:443", "plain host:443"), ("\u{1b}[31mred", "\\u{1b}[31mred"),
    ("a\nb\r\0", "a\\u{a}b\\u{d}\\u{0}"),
    ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"), ("gpj\u{202e}.exe", "gpj\\u{202e}.exe"), ("zoë 日本", "zoë 日本"),
  ])
  func `what could steer a terminal is written as an escape`(text: String, printed: String) {
    #expect(text.printable == printed)
  }

  @Test(arguments: [
    ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 1, "…"), ("abcd", 0, ""), ("日本語", 6, "日本語"),
    ("日本語", 5, "日本…"), ("日本語", 4, "日…"), ("e\u{301}té", 3, "e\u{301}té"),
  ])
  func `a text is clipped by the columns that it takes`(text: String, limit: Int, clipped: String) {
    #expect(text.clipped(to: limit) == clipped)
    #expect(text.clipped(to: limit).columns <= limit)
  }

  @Test(arguments: [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (102_348, "99.9 KiB"),
    (102_400, "100 KiB"), (1_048_063, "1023 KiB"), (1_048_064, "1.0 MiB"), (1_048_576, "1.0 MiB"),
    (5 << 30, "5.0 GiB"), (UInt64.max, "16.0 EiB"),
  ])
  func `bytes are told in units of 1024`(count: UInt64, text: String) {
    #expect(Amount.bytes(count) == text)
  }

  @Test(
    arguments: [
      (nil, "-"), (0, "0 B/s"), (2048.7, "2.0 KiB/s"), (-1, "0 B/s"), (.nan, "0 B/s"),
      (.infinity, "16.0 EiB/s"),
    ] as [(Double?, String)]
  )
  func `any rate can be told`(rate: Double?, text: String) {
    #expect(Amount.rate(rate) == text)
  }

  @Test(arguments: [
    (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86399, "23h59m"),
    (90061, "1d01h"), (-5, "0s"),
  ])
  func `a duration is told in its two largest units`(seconds: Double, text: String) {
    #expect(Amount.duration(seconds: seconds) == text)
  }

  @Test func `compact JSON is one line and keeps strings and numbers`() {
    let json = #"{ "a b" : [ 1.50, "x \" y" ],"# + "\r\n\t" + #""c\\" : "  ", "d": 1e+3 }"#
    #expect(JSONForm.compact(json.utf8) == #"{"a b":[1.50,"x \" y"],"c\\":"  ","d":1e+3}"#)
  }

  @Test func `control characters in JSON become escapes of the same meaning`() {
    #expect(JSONForm.harmless("{\n\t\"a\": \"\u{9b}2J\u{7f}ö\"}") == "{\n\t\"a\": \"\\u009b2J\\u007fö\"}")
  }
}

@Suite struct TextTableTests {
  private static func table() -> TextTable {
    var table = TextTable([.text("NAME"), .elastic("TARGET", narrowest: 8), .number("UP")])
    table.append(["a", "short:1", "5"])
    table.append(["bcdef", "a-long-name.example.com:443", "12345"])
    return table
  }

  @Test func `columns are as wide as their widest cell`() {
    #expect(
      Self.table().lines() == [
        "NAME   TARGET                          UP",
        "a      short:1                          5",
        "bcdef  a-long-name.example.com:443  12345",
      ]
    )
  }

  @Test func `elastic columns give way in a narrow terminal`() {
    #expect(
      Self.table().lines(width: 24) == [
        "NAME   TARGET         UP",
        "a      short:1         5",
        "bcdef  a-long-na…  12345",
      ]
    )
  }

  @Test func `expendable columns go where the narrowest form does not fit`() {
    var table = TextTable([
      .text("A"), .text("SECOND", expendability: 1), .elastic("TARGET", narrowest: 8, expendability: 2),
    ])
    table.append(["1", "2", "example.com"])
    #expect(table.lines(width: 19) == ["A  SECOND  TARGET", "1  2       example…"])
    #expect(table.lines(width: 18) == ["A  SECOND", "1  2"])
    #expect(table.lines(width: 8) == ["A", "1"])
  }

  @Test(arguments: 0...60)
  func `no line is wider than the terminal`(width: Int) {
    #expect(Self.table().lines(width: width).allSatisfy { $0.columns <= width })
  }

  @Test func `a cell cannot break out of its line, and missing cells are empty`() {
    var table = TextTable([.text("A"), .text("B")])
    table.append(["x\ny"])
    table.append(["1", "2", "3"])
    #expect(table.lines() == ["A        B", "x\\u{a}y", "1        2"])
  }
}
