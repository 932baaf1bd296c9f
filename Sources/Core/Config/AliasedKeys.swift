/// Finds keys that are more than a word in a text that has aliases.
///
/// The YAML library hashes every key, and aliases of aliases make a key of a few lines that takes years to hash.
/// No config needs such keys. Where a text has both anchors and aliases, whatever could be one is refused: an
/// explicit key (`? …`), an alias as a key (`*a : …`), a list or mapping as a key (`[…]: …`). It looks at
/// characters and not at the grammar, so that within quotes too it sees what is none; better than none too few.
enum AliasedKeys {
  /// Where the first one stands; nil where there is none.
  static func find(in text: String) -> SourcePosition? {
    let bytes = Array(text.utf8)
    guard hasToken(UInt8(ascii: "&"), bytes), hasToken(UInt8(ascii: "*"), bytes) else { return nil }
    return bytes.indices.first { isKey(at: $0, bytes) }.map { position(of: $0, bytes) }
  }

  private static func isKey(at index: Int, _ bytes: [UInt8]) -> Bool {
    switch bytes[index] {
    case UInt8(ascii: "?"): startsToken(index, bytes) && isSpace(index + 1, bytes)
    case UInt8(ascii: "*"): startsToken(index, bytes) && isColon(after: nameEnd(index + 1, bytes), bytes)
    case UInt8(ascii: "]"): isColon(after: index + 1, bytes) && endsCollection(index, "[", bytes)
    case UInt8(ascii: "}"): isColon(after: index + 1, bytes) && endsCollection(index, "{", bytes)
    default: false
    }
  }

  /// Whether an anchor or an alias begins somewhere: the sign at the start of a token, a name behind it.
  private static func hasToken(_ sign: UInt8, _ bytes: [UInt8]) -> Bool {
    bytes.indices.contains { bytes[$0] == sign && startsToken($0, bytes) && nameEnd($0 + 1, bytes) > $0 + 1 }
  }

  private static func startsToken(_ index: Int, _ bytes: [UInt8]) -> Bool {
    index == 0 || " \t\r\n[{,:-?]}".utf8.contains(bytes[index - 1])
  }

  private static func nameEnd(_ start: Int, _ bytes: [UInt8]) -> Int {
    var end = start
    while end < bytes.count, !" \t\r\n[]{},:".utf8.contains(bytes[end]) { end += 1 }
    return end
  }

  private static func isColon(after start: Int, _ bytes: [UInt8]) -> Bool {
    var index = start
    while index < bytes.count, " \t\r\n".utf8.contains(bytes[index]) { index += 1 }
    return index < bytes.count && bytes[index] == UInt8(ascii: ":")
  }

  /// Whether the bracket before it opens a collection, and is no part of a word such as `${NAME}` or `//[::1]`.
  private static func endsCollection(_ index: Int, _ opening: Unicode.Scalar, _ bytes: [UInt8]) -> Bool {
    bytes[..<index].lastIndex(of: UInt8(ascii: opening)).map { startsToken($0, bytes) } ?? false
  }

  private static func isSpace(_ index: Int, _ bytes: [UInt8]) -> Bool {
    index >= bytes.count || " \t\r\n".utf8.contains(bytes[index])
  }

  private static func position(of index: Int, _ bytes: [UInt8]) -> SourcePosition {
    let before = bytes[..<index]
    let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    return SourcePosition(
      line: before.count { $0 == UInt8(ascii: "\n") } + 1,
      column: String(decoding: before[lineStart...], as: UTF8.self).unicodeScalars.count + 1
    )
  }
}
