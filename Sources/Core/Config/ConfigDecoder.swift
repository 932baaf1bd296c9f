/// Reads one value of the config as a `Decodable` type.
///
/// It differs from other decoders in that it does not stop at the first mistake. A missing or wrong value is
/// reported to `findings` and replaced by a placeholder where its type has one: text, numbers, booleans, lists,
/// optional values, enums of text, and every `ConfigScalar`. Other types end the mapping that they stand in.
///
/// A type with an `init(from:)` of its own may try one form and then another, as it may elsewhere: what fails in a
/// single-value container, or for want of a container, is a `DecodingError` and reported only if nobody catches it.
///
/// Keys are written in snake case: the property `serverName` reads the key `server_name`.
final class ConfigDecoder: Decoder {
  let value: ConfigValue
  let path: [String]
  let findings: ConfigFindings
  /// Set when the keys asked for so far are known to be all: their type lists its cases.
  var knowsAllKeys = false

  var codingPath: [any CodingKey] { path.map { ConfigKey($0) } }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  init(_ value: ConfigValue, _ path: [String], _ findings: ConfigFindings) {
    self.value = value
    self.path = path
    self.findings = findings
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    switch value.content {
    case .mapping, .null: break
    default: throw mismatch(type, "a mapping")
    }
    findings.expect([], at: path)
    if let listed = type as? any CaseIterable.Type {
      findings.expect(keyNames(listed), at: path)
      knowsAllKeys = true
    }
    return KeyedDecodingContainer(ConfigMappingReader<Key>(decoder: self))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    guard case .sequence = value.content else { throw mismatch([ConfigValue].self, "a list") }
    return ConfigListReader(decoder: self)
  }

  func singleValueContainer() throws -> any SingleValueDecodingContainer {
    ConfigSingleReader(decoder: self)
  }

  /// What a type can catch that takes another form as well; uncaught, it is reported.
  func mismatch(_ type: Any.Type, _ expected: String) -> any Error {
    guard !value.isBroken else { return ConfigAbort() }
    let text = "expected \(expected), found \(value.found)"
    return DecodingError.typeMismatch(type, .init(codingPath: codingPath, debugDescription: text))
  }
}

/// Problems that were taken back because the type might try another form.
struct RetractedProblems: Error {
  var problems: [ConfigProblem]
}

/// Ends the reading of a value whose problem is reported already.
struct ConfigAbort: Error {}

/// A key that can be any text.
struct ConfigKey: CodingKey {
  var stringValue: String
  var intValue: Int? { Int(stringValue) }

  init(_ text: String) { stringValue = text }
  init?(stringValue: String) { self.init(stringValue) }
  init?(intValue: Int) { self.init("\(intValue)") }
}

private func keyNames<Keys: CaseIterable>(_ type: Keys.Type) -> [String] {
  type.allCases.compactMap { ($0 as? any CodingKey)?.stringValue.snakeCased }
}

extension String {
  /// `serverName` as `server_name`, `pinSHA256` as `pin_sha256`; text without capitals stays as it is.
  var snakeCased: String {
    let letters = Array(self)
    var result = ""
    for (index, letter) in letters.enumerated() {
      if letter.isUppercase, index > 0, letters[index - 1] != "_" {
        let startsWord = !letters[index - 1].isUppercase
        let endsAcronym = index + 1 < letters.count && letters[index + 1].isLowercase
        if startsWord || endsAcronym { result += "_" }
      }
      result += letter.lowercased()
    }
    return result
  }
}

// MARK: Reading a value as a type

extension ConfigFindings {
  func reportMismatch(_ expected: String, _ value: ConfigValue, _ path: [String]) {
    guard !value.isBroken else { return }
    report("\(name(of: path)): expected \(expected), found \(value.found)", at: value.position, path: path)
  }

  /// Reads a value that is there.
  ///
  /// - Returns: nil where its problem is reported and its type has no placeholder.
  func read<T: Decodable>(_ type: T.Type, _ value: ConfigValue, _ path: [String]) -> T? {
    if let form = ScalarForm(type) {
      if type == Secret.self { addSecret(path) }
      let result = readScalar(form, value, path) as? T
      if let file = result as? FilePath { addFile(file, path) }
      return result
    }
    if let type = type as? any ConfigCollection.Type { return type.read(value, path, self) as? T }
    return readByItself(type, value, path)
  }

  /// What takes the place of a missing value; nil where its type has none.
  func placeholder<T>(_ type: T.Type) -> T? {
    if let form = ScalarForm(type) { return form.placeholder as? T }
    return (type as? any ConfigCollection.Type)?.placeholder as? T
  }

  private func readScalar(_ form: ScalarForm, _ value: ConfigValue, _ path: [String]) -> Any {
    let takes = value.scalar.map { $0.isPlain || form.takesQuotes } ?? false
    if takes, let text = value.scalar?.text, let read = form.read(text) { return read }
    guard !value.isBroken else { return form.placeholder }
    let quotes = value.scalar != nil && !takes ? " without quotes" : ""
    let message =
      form.choices.map { expectation(oneOf: $0, found: value) }
      ?? "expected \(form.expected)\(quotes), found \(value.found)"
    report("\(name(of: path)): \(message)", at: value.position, path: path)
    return form.placeholder
  }

  private func readByItself<T: Decodable>(_ type: T.Type, _ value: ConfigValue, _ path: [String]) -> T? {
    let decoder = ConfigDecoder(value, path, self)
    do {
      return try T(from: decoder)
    } catch {
      reportFailure(error, value, path)
      if !decoder.knowsAllKeys { abandon(path) }
      return nil
    }
  }

  /// Reports what a type's own `init(from:)` threw, unless it stumbled over a placeholder.
  private func reportFailure(_ error: any Error, _ value: ConfigValue, _ path: [String]) {
    guard !(error is ConfigAbort), !value.isBroken, !hasProblem(within: path) else { return }
    switch error {
    case let error as PluginError: report(error, in: path)
    case DecodingError.dataCorrupted(let context), DecodingError.typeMismatch(_, let context),
      DecodingError.keyNotFound(_, let context), DecodingError.valueNotFound(_, let context):
      if let retracted = context.underlyingError as? RetractedProblems {
        return retracted.problems.forEach { report($0) }
      }
      let inner = context.codingPath.count > path.count ? context.codingPath.map(\.stringValue) : path
      let isFromEnvironment = value.scalar.map { $0.text != $0.written } ?? false
      // The standard library's own messages quote the value.
      report(value: inner, isFromEnvironment ? "cannot read \(value.found)" : context.debugDescription)
    default: report(value: path, "\(error)")
    }
  }
}

// MARK: Collections

/// Types that hold others: each item is read for itself, so that one bad item does not hide the next.
protocol ConfigCollection {
  static func read(_ value: ConfigValue, _ path: [String], _ findings: ConfigFindings) -> Self
  static var placeholder: Self { get }
}

extension Array: ConfigCollection where Element: Decodable {
  static var placeholder: [Element] { [] }

  static func read(_ value: ConfigValue, _ path: [String], _ findings: ConfigFindings) -> [Element] {
    guard case .sequence(let items) = value.content else {
      findings.reportMismatch("a list", value, path)
      return []
    }
    return items.enumerated().compactMap { findings.read(Element.self, $1, path + ["\($0)"]) }
  }
}

extension Dictionary: ConfigCollection where Key == String, Value: Decodable {
  static var placeholder: [String: Value] { [:] }

  static func read(_ value: ConfigValue, _ path: [String], _ findings: ConfigFindings) -> [String: Value] {
    guard case .mapping(let members) = value.content else {
      findings.reportMismatch("a mapping", value, path)
      return [:]
    }
    return members.reduce(into: [:]) { result, member in
      result[member.key] = findings.read(Value.self, member.value, path + [member.key])
    }
  }
}
