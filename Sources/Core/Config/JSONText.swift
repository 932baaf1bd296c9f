import Foundation

/// JSON as the YAML reader can take it.
///
/// JSON is YAML but for one thing that matters here: the YAML library refuses surrogate pairs (`\ud83d\ude00`).
/// What is no JSON is refused, so that a text that is called JSON means the same to everybody.
enum JSONText {
  /// - Throws: where the text is no JSON.
  static func yaml(_ text: String, file: String) throws(ConfigErrors) -> String {
    do {
      _ = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
    } catch {
      let reason = (error as NSError).userInfo[NSDebugDescriptionErrorKey] as? String
      let message = "not valid JSON\(reason.map { ": \($0)" } ?? "")"
      throw ConfigErrors([ConfigProblem(file: file, line: 1, column: 1, message: message)])
    }
    return joiningSurrogates(text)
  }

  /// Replaces each pair of surrogate escapes by the character that it stands for.
  private static func joiningSurrogates(_ text: String) -> String {
    guard text.contains("\\u") else { return text }
    let bytes = Array(text.utf8)
    var joined: [UInt8] = []
    joined.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
      if let high = escape(bytes, at: index), (0xD800..<0xDC00).contains(high),
        let low = escape(bytes, at: index + 6), (0xDC00..<0xE000).contains(low),
        let scalar = Unicode.Scalar(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
      {
        joined += Array(String(Character(scalar)).utf8)
        index += 12
      } else {
        // Two bytes at once, so that the backslash of `\\u` starts no escape.
        let width = bytes[index] == UInt8(ascii: "\\") ? min(2, bytes.count - index) : 1
        joined += bytes[index..<index + width]
        index += width
      }
    }
    return String(decoding: joined, as: UTF8.self)
  }

  /// The number of the `\uXXXX` that begins at an index.
  private static func escape(_ bytes: [UInt8], at index: Int) -> UInt32? {
    guard index + 6 <= bytes.count, bytes[index] == UInt8(ascii: "\\"), bytes[index + 1] == UInt8(ascii: "u")
    else { return nil }
    return UInt32(String(decoding: bytes[index + 2..<index + 6], as: UTF8.self), radix: 16)
  }
}
