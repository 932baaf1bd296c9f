/// What tells one version of a resource from another (RFC 9110 §8.8.3).
struct EntityTag: Sendable, Hashable {
  /// What stands between the quotes.
  var value: String
  /// Whether it only promises that two versions mean the same.
  var isWeak = false

  init(_ value: String, isWeak: Bool = false) {
    self.value = value
    self.isWeak = isWeak
  }

  /// Reads `"x"` or `W/"x"`.
  init?(field text: String) {
    isWeak = text.hasPrefix("W/")
    let quoted = isWeak ? text.dropFirst(2) : text[...]
    guard quoted.utf8.count >= 2, quoted.hasPrefix("\""), quoted.hasSuffix("\"") else { return nil }
    value = String(quoted.dropFirst().dropLast())
    guard value.utf8.allSatisfy({ $0 == 0x21 || 0x23...0x7e ~= $0 || $0 >= 0x80 }) else { return nil }
  }

  /// As it stands in `ETag`.
  var field: String { "\(isWeak ? "W/" : "")\"\(value)\"" }
}

/// The value of `If-Match` or `If-None-Match` (RFC 9110 §13.1).
enum EntityTagCondition: Sendable, Equatable {
  /// `*`: any version at all.
  case any
  /// One of these.
  case tags([EntityTag])

  /// Reads a field's value; nil where it is malformed.
  init?(field text: String) {
    guard text.trimmedWhitespace != "*" else {
      self = .any
      return
    }
    // A quote ends a tag always: backslashes mean nothing within.
    var tags: [EntityTag] = []
    for part in Self.split(text) where !part.isEmpty {
      guard let tag = EntityTag(field: part) else { return nil }
      tags.append(tag)
    }
    guard !tags.isEmpty else { return nil }
    self = .tags(tags)
  }

  /// The strong comparison that `If-Match` asks for; nil is a resource that does not exist.
  func matchesStrongly(_ current: EntityTag?) -> Bool {
    guard let current else { return false }
    return switch self {
    case .any: true
    case .tags(let tags): !current.isWeak && tags.contains { !$0.isWeak && $0.value == current.value }
    }
  }

  /// The weak comparison that `If-None-Match` asks for; nil is a resource that does not exist.
  func matchesWeakly(_ current: EntityTag?) -> Bool {
    guard let current else { return false }
    return switch self {
    case .any: true
    case .tags(let tags): tags.contains { $0.value == current.value }
    }
  }

  private static func split(_ text: String) -> [String] {
    var parts = [""]
    var quoted = false
    for character in text {
      if character == "\"" { quoted.toggle() }
      if character == ",", !quoted { parts.append("") } else { parts[parts.count - 1].append(character) }
    }
    return parts.map(\.trimmedWhitespace)
  }
}

extension AdminRequest {
  /// `If-Match`; nil where the client did not send it.
  ///
  /// - Throws: 400 where it is malformed.
  func ifMatch() throws(Problem) -> EntityTagCondition? { try condition("If-Match") }

  /// `If-None-Match`; nil where the client did not send it.
  ///
  /// - Throws: 400 where it is malformed.
  func ifNoneMatch() throws(Problem) -> EntityTagCondition? { try condition("If-None-Match") }

  private func condition(_ name: String) throws(Problem) -> EntityTagCondition? {
    guard let text = headers[name] else { return nil }
    guard let condition = EntityTagCondition(field: text) else {
      throw Problem(400, detail: "\(name): expected * or quoted entity tags, found '\(text)'")
    }
    return condition
  }
}
