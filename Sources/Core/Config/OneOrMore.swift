/// A text or a list of texts in the config: `key: one` or `key: [one, two]`.
public struct OneOrMore: Decodable, Sendable, Hashable {
  /// In the order of the config; one where it holds a text alone.
  public var values: [String]

  /// As if the config held this list.
  public init(_ values: [String]) {
    self.values = values
  }

  /// Reads it where some other decoder than that of the config is at work.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    do {
      values = [try container.decode(String.self)]
    } catch DecodingError.typeMismatch {
      values = try container.decode([String].self)
    }
  }
}

extension OneOrMore: ConfigCollection {
  static var placeholder: OneOrMore { OneOrMore([]) }

  static func read(_ value: ConfigValue, _ path: [String], _ findings: ConfigFindings) -> OneOrMore {
    if case .sequence = value.content { return OneOrMore([String].read(value, path, findings)) }
    return OneOrMore([findings.read(String.self, value, path)].compactMap { $0 })
  }
}
