import Foundation
import NIOCore

/// Standard output, for which a reader that left is an error and not the end of the process.
enum StandardOutput {
  enum WriteError: Error, Equatable, CustomStringConvertible {
    /// Nobody reads any more.
    case closed
    case failed(errno: CInt)

    var description: String {
      switch self {
      case .closed: "standard output is closed"
      // strerror never gives a null pointer, whatever the number.
      case .failed(let number): "cannot write to standard output: \(String(cString: strerror(number)))"
      }
    }
  }

  /// Writes lines, each with its end.
  static func write(lines: [String]) throws(WriteError) {
    try write(lines.map { $0 + "\n" }.joined())
  }

  /// Writes a JSON text as it came, with a line end behind it.
  static func write(json: ByteBuffer) throws(WriteError) {
    let text = JSONForm.harmless(String(buffer: json))
    try write(text.hasSuffix("\n") ? text : text + "\n")
  }

  /// Writes all of it, waiting where the reader is slow.
  static func write(_ text: String, to descriptor: CInt = STDOUT_FILENO) throws(WriteError) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written >= 0 {
        rest = rest.dropFirst(written)
        continue
      }
      switch errno {
      case EINTR:
        continue
      case EAGAIN:
        var interest = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&interest, 1, -1)
      case EPIPE:
        throw .closed
      case let number:
        throw .failed(errno: number)
      }
    }
  }
}

/// The terminal that standard output is.
struct Terminal {
  /// In columns and lines.
  typealias Size = (width: Int, height: Int)

  /// Nil where standard output is no terminal, or one that cannot move its cursor.
  init?() {
    let kind = ProcessInfo.processInfo.environment["TERM"] ?? ""
    guard isatty(STDOUT_FILENO) == 1, !["", "dumb"].contains(kind) else { return nil }
  }

  /// As it is now; 80 by 24 where the terminal does not know.
  var size: Size {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
      return (80, 24)
    }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  /// Takes the second screen, so that what stood on the first comes back; hides the cursor.
  func enter() throws {
    try StandardOutput.write("\u{1b}[?1049h\u{1b}[?25l")
  }

  /// Writes over what stood there before; line by line, so that nothing flickers.
  func show(_ lines: [String]) throws {
    let text = lines.joined(separator: "\u{1b}[K\r\n")
    try StandardOutput.write("\u{1b}[H\(text)\u{1b}[K\u{1b}[J")
  }

  /// Undoes `enter`.
  func leave() {
    // Where the terminal is gone there is nothing to restore.
    try? StandardOutput.write("\u{1b}[?25h\u{1b}[?1049l")
  }
}

/// Other forms of a JSON text that mean the same.
enum JSONForm {
  /// Writes control characters as escapes: JSON lets those behind ASCII stand in strings as they are, and a
  /// terminal may obey them.
  static func harmless(_ json: String) -> String {
    guard json.unicodeScalars.contains(where: isControl) else { return json }
    return json.unicodeScalars.reduce(into: "") { result, scalar in
      if isControl(scalar) {
        result += String(format: "\\u%04x", scalar.value)
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.generalCategory == .control && !["\n", "\r", "\t"].contains(scalar)
  }

  /// One line: the white space between tokens is taken out; strings and numbers stay as they came.
  static func compact(_ json: some Collection<UInt8>) -> String {
    var result: [UInt8] = []
    result.reserveCapacity(json.count)
    var isInString = false
    var isEscaped = false
    for byte in json {
      if isInString {
        let ends = byte == UInt8(ascii: "\"") && !isEscaped
        isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
        isInString = !ends
      } else if [0x20, 0x09, 0x0a, 0x0d].contains(byte) {
        continue
      } else {
        isInString = byte == UInt8(ascii: "\"")
      }
      result.append(byte)
    }
    return String(decoding: result, as: UTF8.self)
  }
}
