import Yams

/// A piece of config to show: as it is written, aliases followed, secrets replaced.
public indirect enum ConfigNode: Sendable, Equatable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case number(Double)
  case text(String)
  case list([ConfigNode])
  /// In the order of the file.
  case mapping([Member])

  /// A key and its value.
  public struct Member: Sendable, Equatable {
    /// As it is written.
    public var key: String
    /// What stands behind it.
    public var value: ConfigNode
  }

  /// The value of a key of a mapping.
  public subscript(key: String) -> ConfigNode? {
    guard case .mapping(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }
}

extension ConfigNode: Encodable {
  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  /// Writes it in the words of the encoder.
  public func encode(to encoder: any Encoder) throws {
    if case .mapping(let members) = self {
      var container = encoder.container(keyedBy: Key.self)
      for member in members {
        try container.encode(member.value, forKey: Key(stringValue: member.key))
      }
      return
    }
    var container = encoder.singleValueContainer()
    switch self {
    case .null, .mapping: try container.encodeNil()
    case .boolean(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .text(let value): try container.encode(value)
    case .list(let items): try container.encode(items)
    }
  }
}

extension ConfigValue {
  /// What stands for a secret that is not shown; sent back in its place, it means "as before".
  static let redacted = "<redacted>"

  /// The same with each secret replaced; a secret that is a reference to the environment alone stays, for it
  /// shows nothing.
  func redacting(_ secrets: Set<[String]>, at path: [String] = []) -> ConfigValue {
    var copy = self
    switch content {
    case .scalar(let scalar) where secrets.contains(path) && !scalar.isReference:
      copy.content = .scalar(.init(text: Self.redacted, written: Self.redacted, isPlain: false))
    case .mapping(let members):
      copy.content = .mapping(
        members.map { member in
          var member = member
          member.value = member.value.redacting(secrets, at: path + [member.key])
          return member
        }
      )
    case .sequence(let items):
      copy.content = .sequence(
        items.enumerated().map { $1.redacting(secrets, at: path + ["\($0)"]) }
      )
    case .null, .broken, .scalar: ()
    }
    return copy
  }

  /// To show; references to the environment as they are written.
  var node: ConfigNode {
    switch content {
    case .null, .broken: .null
    case .scalar(let scalar): scalar.node
    case .sequence(let items): .list(items.map(\.node))
    case .mapping(let members): .mapping(members.map { .init(key: $0.key, value: $0.value.node) })
    }
  }

  /// YAML text that reads as the same value; references to the environment as they are written.
  func yamlText() -> String {
    // Fails for text that no YAML can hold alone, which no value that was read from YAML is.
    (try? Yams.serialize(node: yamlNode, width: -1, allowUnicode: true)) ?? ""
  }

  private var yamlNode: Node {
    switch content {
    case .null, .broken: return Node("null", .implicit, .plain)
    case .scalar(let scalar):
      return Node(scalar.written, .implicit, scalar.isPlain ? .plain : .doubleQuoted)
    case .sequence(let items): return Node(items.map(\.yamlNode))
    case .mapping(let members):
      return Node(members.map { (Node($0.key), $0.value.yamlNode) })
    }
  }
}

extension ConfigValue.Scalar {
  /// `${NAME}` and nothing beside it.
  var isReference: Bool {
    text != written && written.hasPrefix("${") && written.firstIndex(of: "}") == written.indices.last
  }

  fileprivate var node: ConfigNode {
    guard isPlain, text == written else { return .text(written) }
    if let value = Bool(text) { return .boolean(value) }
    if let value = Int64(text), "\(value)" == text { return .integer(value) }
    if let value = Double(text), "\(value)" == text, value.isFinite { return .number(value) }
    return .text(written)
  }
}
