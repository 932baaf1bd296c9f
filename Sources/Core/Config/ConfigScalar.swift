/// A type that is written as one word or number in the config, such as a duration or an address.
///
/// The config reader knows these types: where one is missing or misspelt it says what was expected, goes on
/// with a placeholder, and so finds the mistakes behind it too. The value with the placeholder is never used.
///
/// A plugin's options are a plain `Decodable` struct of such types, text, numbers, booleans, enums of text, and
/// lists, dictionaries and structs of these. Its property `serverName` reads the key `server_name`:
///
///     struct Options: Decodable {
///       enum Mode: String, Decodable, CaseIterable { case fast, slow }
///       var serverName: String
///       var mode: Mode?
///       var keepAlive: ConfigDuration?
///       var password: Secret?
///     }
public protocol ConfigScalar: Decodable {
  /// What is expected, for "expected …, found …": `a duration such as 500ms, 30s, 5m or 2h`.
  static var configForm: String { get }
  /// Any value at all.
  static var configPlaceholder: Self { get }
  /// Reads the text; nil where it does not have the form.
  init?(configText: String)
}

extension ConfigScalar {
  /// Reads it where some other decoder than that of the config is at work.
  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let value = Self(configText: text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "expected \(Self.configForm)")
      )
    }
    self = value
  }
}

/// How a type is read from one scalar: text, numbers, booleans, enums of text, and every `ConfigScalar`.
struct ScalarForm {
  /// For "expected …, found …".
  var expected: String
  var placeholder: Any
  /// False for numbers and booleans, as in JSON.
  var takesQuotes = true
  /// The only texts it takes, if they can be listed.
  var choices: [String]?
  var read: (String) -> Any?

  /// Nil for a type that is not written as one scalar.
  init?(_ type: Any.Type) {
    switch type {
    case let type as any ConfigScalar.Type: self.init(scalar: type)
    case let type as any FixedWidthInteger.Type: self.init(integer: type)
    case is String.Type: self.init(expected: "text", placeholder: "") { $0 }
    case is Bool.Type:
      self.init(expected: "true or false", placeholder: false, takesQuotes: false) { Bool($0) }
    case is Double.Type:
      self.init(expected: "a number", placeholder: 0.0, takesQuotes: false) { Double($0).finite }
    case is Float.Type:
      self.init(expected: "a number", placeholder: Float(0), takesQuotes: false) { Float($0).finite }
    case let type as any CaseIterable.Type: self.init(choices: type)
    default: return nil
    }
  }

  private init(
    expected: String,
    placeholder: Any,
    takesQuotes: Bool = true,
    choices: [String]? = nil,
    read: @escaping (String) -> Any?
  ) {
    self.expected = expected
    self.placeholder = placeholder
    self.takesQuotes = takesQuotes
    self.choices = choices
    self.read = read
  }

  private init<T: ConfigScalar>(scalar type: T.Type) {
    self.init(expected: T.configForm, placeholder: T.configPlaceholder) { T(configText: $0) }
  }

  private init<T: FixedWidthInteger>(integer type: T.Type) {
    let expected =
      T.bitWidth == Int.bitWidth && T.isSigned ? "an integer" : "an integer from \(T.min) to \(T.max)"
    self.init(expected: expected, placeholder: T.zero, takesQuotes: false) { T($0, radix: 10) }
  }

  private init?<T: CaseIterable>(choices type: T.Type) {
    var cases: [String: Any] = [:]
    for value in type.allCases {
      guard let text = (value as? any RawRepresentable)?.rawValue as? String else { return nil }
      cases[text] = value
    }
    guard let first = type.allCases.first else { return nil }
    let names = cases.keys.sorted()
    let expected = "one of \(names.joined(separator: ", "))"
    self.init(expected: expected, placeholder: first, choices: names) { cases[$0] }
  }
}

extension Optional where Wrapped: FloatingPoint {
  fileprivate var finite: Wrapped? { flatMap { $0.isFinite ? $0 : nil } }
}
