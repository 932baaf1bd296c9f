/// A line and a column, both from 1; columns count Unicode scalars.
struct SourcePosition: Hashable, Sendable {
  var line: Int
  var column: Int

  static let start = SourcePosition(line: 1, column: 1)
}

/// A value of a config file with its place: YAML with aliases followed, merge keys merged and `${NAME}` replaced.
struct ConfigValue: Sendable {
  enum Content: Sendable {
    case null
    case scalar(Scalar)
    case sequence([ConfigValue])
    case mapping([Member])
    /// A problem with it is already reported: it reads as a placeholder, and without a second problem.
    case broken
  }

  struct Scalar: Sendable {
    var text: String
    /// The text before `${NAME}` was replaced: the only form that messages may show.
    var written: String
    /// Neither quoted nor a block, so that it may stand for a number or a boolean.
    var isPlain: Bool
  }

  struct Member: Sendable {
    var key: String
    var position: SourcePosition
    var value: ConfigValue
  }

  var content: Content
  var position: SourcePosition

  var isNull: Bool {
    if case .null = content { true } else { false }
  }

  var isBroken: Bool {
    if case .broken = content { true } else { false }
  }

  var scalar: Scalar? {
    if case .scalar(let scalar) = content { scalar } else { nil }
  }

  /// The members of a mapping, none for anything else.
  var members: [Member] {
    if case .mapping(let members) = content { members } else { [] }
  }

  /// The items of a list, none for anything else.
  var items: [ConfigValue] {
    if case .sequence(let items) = content { items } else { [] }
  }

  subscript(key: String) -> ConfigValue? {
    members.first { $0.key == key }?.value
  }

  /// The value at the end of a path of keys and list indexes.
  func value(at path: some Sequence<String>) -> ConfigValue? {
    var value = self
    for step in path {
      guard let next = value[step] ?? value.item(step) else { return nil }
      value = next
    }
    return value
  }

  /// Where the key at the end of a path stands, or the last one before it that exists; list items have no
  /// key and stand where they begin.
  func keyPosition(at path: some Sequence<String>) -> SourcePosition {
    var value = self
    var position = self.position
    for step in path {
      if let member = value.members.first(where: { $0.key == step }) {
        (value, position) = (member.value, member.position)
      } else if let item = value.item(step) {
        (value, position) = (item, item.position)
      } else {
        break
      }
    }
    return position
  }

  private func item(_ index: String) -> ConfigValue? {
    guard case .sequence(let items) = content, let index = Int(index), items.indices.contains(index) else {
      return nil
    }
    return items[index]
  }
}

extension ConfigValue {
  /// What stands there, for "expected …, found …". Values from the environment are shown by name only.
  var found: String {
    switch content {
    case .null, .broken: "nothing"
    case .scalar(let scalar): scalar.written.quotedForMessage
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }

  /// One text for all ways to write the same value: sorted keys, no quotes of choice, no empty members.
  var canonicalText: String {
    switch content {
    case .null, .broken: "null"
    case .scalar(let scalar): scalar.text.debugDescription
    case .sequence(let items): "[\(items.map(\.canonicalText).joined(separator: ","))]"
    case .mapping(let members):
      "{"
        + members.filter { !$0.value.isNull }.sorted { $0.key < $1.key }
        .map { "\($0.key.debugDescription):\($0.value.canonicalText)" }.joined(separator: ",") + "}"
    }
  }
}

extension String {
  /// In quotes, on one line, and not longer than a message can bear.
  var quotedForMessage: String {
    let limit = 60
    let start = unicodeScalars.prefix(limit).map { scalar -> String in
      scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
    }
    return "'\(start.joined())\(unicodeScalars.count > limit ? "…" : "")'"
  }
}
