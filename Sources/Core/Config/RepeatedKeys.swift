import Yams

/// Composes YAML in which a mapping may hold a key more than once.
///
/// Yams refuses such text, and tells no more than where one of the keys stands first. Here that key is replaced
/// by one that no text holds, as long as the first so that no column moves, and the text is read again, until
/// all keys differ. Who reads the result gives the keys back their names and sees every repetition with its place.
struct RepeatedKeys {
  /// What stands for which key.
  private(set) var originals: [String: String] = [:]

  /// Each round reads the whole text; a file with more repeated keys than there are rounds gets the plain error.
  private static let mostRounds = 32
  /// Bytes that all rounds together read, so that a large text gets fewer of them.
  private static let mostBytes = 1 << 20

  /// - Throws: `YamlError`
  mutating func compose(_ text: String) throws -> Node? {
    var text = text
    let rounds = min(Self.mostRounds, Self.mostBytes / max(1, text.utf8.count))
    while true {
      do {
        return try Yams.compose(yaml: text, .basic)
      } catch YamlError.duplicatedKeysInMapping(let keys, let context) where originals.count < rounds {
        guard let key = keys.first, let changed = replace(key, at: context.mark, in: text) else {
          throw YamlError.duplicatedKeysInMapping(duplicates: keys, context: context)
        }
        text = changed
      }
    }
  }

  /// - Returns: nil where the text does not hold the key literally at that place, but escaped or behind an anchor.
  private mutating func replace(_ key: String, at mark: Mark, in text: String) -> String? {
    var scalars = Array(text.unicodeScalars)
    let wanted = Array(key.unicodeScalars)
    guard var start = Self.offset(of: mark, in: scalars), let first = scalars[start...].first else {
      return nil
    }
    if first == "\"" || first == "'" { start += 1 }
    guard !wanted.isEmpty, scalars[start...].starts(with: wanted),
      let mark = Unicode.Scalar(0xE000 + UInt32(originals.count))
    else { return nil }
    let substitute = wanted.map { _ in mark }
    scalars.replaceSubrange(start..<start + wanted.count, with: substitute)
    originals[String(String.UnicodeScalarView(substitute))] = key
    return String(String.UnicodeScalarView(scalars))
  }

  private static func offset(of mark: Mark, in scalars: [Unicode.Scalar]) -> Int? {
    var start = 0
    for _ in 1..<max(mark.line, 1) {
      guard let end = scalars[start...].firstIndex(where: \.isLineBreak) else { return nil }
      let isPair = scalars[end] == "\r" && end + 1 < scalars.count && scalars[end + 1] == "\n"
      start = end + (isPair ? 2 : 1)
    }
    let offset = start + mark.column - 1
    return offset < scalars.count ? offset : nil
  }
}

extension Unicode.Scalar {
  /// The line breaks of YAML 1.1, which is what marks count.
  fileprivate var isLineBreak: Bool {
    ["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}"].contains(self)
  }
}
