import NIOCore

/// The head of an HTTP/1.1 message (RFC 9112 §2.1): the start line and the fields.
package struct HTTPHead: Sendable {
  /// One field line, its value without white space around it.
  package struct Field: Sendable {
    package var name: String
    package var value: String
  }

  package var startLine: String
  package var fields: [Field]

  /// The values of all lines of a field, in order; names are compared without case.
  package func values(of name: String) -> [String] {
    fields.filter { $0.isNamed(name) }.map(\.value)
  }

  /// Whether a field that is a list has that member (RFC 9110 §5.6.1); compared without case.
  package func lists(_ member: String, in name: String) -> Bool {
    values(of: name).flatMap { $0.split(separator: ",") }.contains { item in
      item.lowercased().split(whereSeparator: { " \t".contains($0) }) == [member.lowercased()[...]]
    }
  }

  /// The status of a response, from `HTTP/1.x NNN reason` (RFC 9112 §4), of which the reason may be missing; nil
  /// for anything else.
  package var responseStatus: Int? {
    let bytes = Array(startLine.utf8)
    guard bytes.count == 12 || bytes.count > 12 && bytes[12] == UInt8(ascii: " "),
      startLine.hasPrefix("HTTP/1."), isDigit(bytes[7]), bytes[8] == UInt8(ascii: " "),
      bytes[9...11].allSatisfy(isDigit)
    else { return nil }
    let status = bytes[9...11].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    return status >= 100 ? status : nil
  }
}

private func isDigit(_ byte: UInt8) -> Bool {
  (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
}

/// Why bytes are not a head.
package enum HTTPHeadError: Error, Equatable {
  /// It did not end within `HTTPHeadReader.limit`.
  case tooLarge
  /// What is wrong, in words for the peer.
  case malformed(String)
}

/// Takes HTTP/1.1 heads from the front of a growing buffer.
///
/// It is strict where two readers could take the same bytes for different messages: lines end with CR LF
/// alone, no folded lines, no space before the colon, no control characters. Bytes that cannot be a head are
/// refused as they come, not when the head is full. Each byte is looked at once, in however many pieces the
/// head arrives.
package struct HTTPHeadReader: Sendable {
  /// Most bytes that a head may have, its last empty line included.
  package static let limit = 16 * 1024

  /// Lines complete so far, without their ends.
  private var lines: [String] = []
  /// Offset from the reader index of the first byte of the unfinished line.
  private var lineStart = 0
  /// Offset from the reader index of the first byte that was not looked at.
  private var scanned = 0
  private var endsWithCR = false

  package init() {}

  /// Takes the head at the front of `bytes`, or leaves them all in place and returns nil where it is not
  /// complete; call again with the same bytes and more behind them.
  ///
  /// An empty line before the head is skipped (RFC 9112 §2.2), one and no more.
  package mutating func read(_ bytes: inout ByteBuffer) throws(HTTPHeadError) -> HTTPHead? {
    for byte in bytes.readableBytesView.dropFirst(scanned) {
      scanned += 1
      if try takeLineEnd(byte) {
        let isLast = finishLine(of: bytes)
        if isLast { return try takeHead(from: &bytes) }
      }
      if scanned >= Self.limit { throw .tooLarge }
    }
    return nil
  }

  /// Checks one byte, and says whether it ends a line.
  private mutating func takeLineEnd(_ byte: UInt8) throws(HTTPHeadError) -> Bool {
    switch byte {
    case UInt8(ascii: "\n"):
      guard endsWithCR else { throw .malformed("a line ends with LF without CR") }
      endsWithCR = false
      return true
    case _ where endsWithCR:
      throw .malformed("a CR without LF")
    case UInt8(ascii: "\r"):
      endsWithCR = true
    case UInt8(ascii: "\t"), 0x20...0x7e, 0x80...0xff:
      break
    default:
      throw .malformed("a control character in the head")
    }
    return false
  }

  /// Keeps the line that ends at `scanned`; true for the empty line that ends the head.
  private mutating func finishLine(of bytes: ByteBuffer) -> Bool {
    let length = scanned - 2 - lineStart
    let isEmpty = length == 0
    let isBeforeHead = isEmpty && lineStart == 0
    if !isEmpty, let line = bytes.getString(at: bytes.readerIndex + lineStart, length: length) {
      lines.append(line)
    }
    lineStart = scanned
    return isEmpty && !isBeforeHead
  }

  private mutating func takeHead(from bytes: inout ByteBuffer) throws(HTTPHeadError) -> HTTPHead {
    guard let startLine = lines.first else { throw .malformed("the head is empty") }
    var fields: [HTTPHead.Field] = []
    for line in lines.dropFirst() {
      fields.append(try HTTPHead.Field(line: line))
    }
    bytes.moveReaderIndex(forwardBy: scanned)
    self = HTTPHeadReader()
    return HTTPHead(startLine: startLine, fields: fields)
  }
}

extension HTTPHead.Field {
  fileprivate func isNamed(_ name: String) -> Bool {
    guard self.name.utf8.count == name.utf8.count else { return false }
    return zip(self.name.utf8, name.utf8).allSatisfy { lowercased($0) == lowercased($1) }
  }

  /// Reads `name: value` (RFC 9112 §5).
  init(line: String) throws(HTTPHeadError) {
    let bytes = line.utf8
    guard bytes.first.map(isWhitespace) != true else { throw .malformed("a folded field line") }
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else {
      throw .malformed("a field without a colon")
    }
    let name = bytes[..<colon]
    guard !name.isEmpty, name.allSatisfy(isTokenByte) else {
      throw .malformed("a field name that is not a token")
    }
    let value = bytes[bytes.index(after: colon)...].drop(while: isWhitespace)
    let end = value.lastIndex { !isWhitespace($0) }.map(value.index(after:)) ?? value.startIndex
    self.init(name: String(line[..<colon]), value: String(line[value.startIndex..<end]))
  }
}

/// Field names are ASCII (RFC 9110 §5.1).
private func lowercased(_ byte: UInt8) -> UInt8 {
  (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
}

private func isWhitespace(_ byte: UInt8) -> Bool {
  byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
}

/// Whether a byte may stand in a `token` (RFC 9110 §5.6.2).
package func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
  case UInt8(ascii: "0")...UInt8(ascii: "9"): true
  default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}
