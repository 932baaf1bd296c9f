/// The three views that `Decodable` types take of a `ConfigDecoder`'s value.

/// A mapping, by its keys in snake case.
struct ConfigMappingReader<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let decoder: ConfigDecoder
  var codingPath: [any CodingKey] { decoder.codingPath }
  private var findings: ConfigFindings { decoder.findings }

  init(decoder: ConfigDecoder) {
    self.decoder = decoder
  }

  var allKeys: [Key] {
    decoder.value.members.compactMap { Key(stringValue: $0.key) }
  }

  func contains(_ key: Key) -> Bool {
    let name = ask(key)
    return decoder.value[name] != nil
  }

  func decodeNil(forKey key: Key) throws -> Bool {
    decoder.value[ask(key)].map(\.isNull) ?? true
  }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    let name = ask(key)
    let path = decoder.path + [name]
    if let value = decoder.value[name] {
      guard let read = findings.read(type, value, path) else { throw ConfigAbort() }
      return read
    }
    reportMissing(name, ScalarForm(type)?.expected, path)
    guard let placeholder = findings.placeholder(type) else { throw ConfigAbort() }
    return placeholder
  }

  func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
    let name = ask(key)
    guard let value = decoder.value[name], !value.isNull else { return nil }
    return findings.read(type, value, decoder.path + [name])
  }

  func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try scalar(type, key) }
  func decode(_ type: String.Type, forKey key: Key) throws -> String { try scalar(type, key) }
  func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try scalar(type, key) }
  func decode(_ type: Float.Type, forKey key: Key) throws -> Float { try scalar(type, key) }
  func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try scalar(type, key) }
  func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try scalar(type, key) }
  func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try scalar(type, key) }
  func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try scalar(type, key) }
  func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try scalar(type, key) }
  func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try scalar(type, key) }
  func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try scalar(type, key) }
  func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try scalar(type, key) }
  func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try scalar(type, key) }
  func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try scalar(type, key) }

  /// The generic `decode` under a name of its own, so that the overloads above do not call themselves.
  private func scalar<T: Decodable>(_ type: T.Type, _ key: Key) throws -> T {
    try decode(type, forKey: key)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy type: Nested.Type,
    forKey key: Key
  ) throws -> KeyedDecodingContainer<Nested> {
    try superDecoder(forKey: key).container(keyedBy: type)
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try superDecoder(forKey: key).unkeyedContainer()
  }

  func superDecoder() throws -> any Decoder { decoder }

  func superDecoder(forKey key: Key) throws -> any Decoder {
    let name = ask(key)
    let value = decoder.value[name] ?? ConfigValue(content: .null, position: decoder.value.position)
    return ConfigDecoder(value, decoder.path + [name], findings)
  }

  /// Notes that the key is known, and gives its name in the file.
  private func ask(_ key: Key) -> String {
    let name = key.stringValue.snakeCased
    findings.expect([name], at: decoder.path)
    return name
  }

  private func reportMissing(_ name: String, _ form: String?, _ path: [String]) {
    guard !decoder.value.isBroken else { return }
    let place = decoder.path.isEmpty ? "" : " in \(findings.placeName(of: decoder.path))"
    let expected = form.map { ": expected \($0)" } ?? ""
    findings.report("missing key '\(name)'\(place)\(expected)", at: decoder.value.position, path: path)
  }
}

/// A list, item by item.
struct ConfigListReader: UnkeyedDecodingContainer {
  let decoder: ConfigDecoder
  private(set) var currentIndex = 0

  init(decoder: ConfigDecoder) {
    self.decoder = decoder
  }

  var codingPath: [any CodingKey] { decoder.codingPath }
  var count: Int? { decoder.value.items.count }
  var isAtEnd: Bool { currentIndex >= decoder.value.items.count }

  mutating func decodeNil() throws -> Bool {
    guard !isAtEnd, decoder.value.items[currentIndex].isNull else { return false }
    currentIndex += 1
    return true
  }

  mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
    let item = try nextDecoder()
    guard let read = item.findings.read(type, item.value, item.path) else { throw ConfigAbort() }
    return read
  }

  mutating func nestedContainer<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key>
  {
    try nextDecoder().container(keyedBy: type)
  }

  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try nextDecoder().unkeyedContainer()
  }

  mutating func superDecoder() throws -> any Decoder { try nextDecoder() }

  private mutating func nextDecoder() throws -> ConfigDecoder {
    guard !isAtEnd else { throw decoder.mismatch([ConfigValue].self, "more than \(currentIndex) items") }
    defer { currentIndex += 1 }
    return ConfigDecoder(
      decoder.value.items[currentIndex],
      decoder.path + ["\(currentIndex)"],
      decoder.findings
    )
  }
}

/// The value as a whole.
struct ConfigSingleReader: SingleValueDecodingContainer {
  let decoder: ConfigDecoder
  var codingPath: [any CodingKey] { decoder.codingPath }

  func decodeNil() -> Bool { decoder.value.isNull }

  func decode<T: Decodable>(_ type: T.Type) throws -> T {
    let (read, retracted) = decoder.findings.retracting {
      decoder.findings.read(type, decoder.value, decoder.path)
    }
    if let first = retracted.first {
      let context = DecodingError.Context(
        codingPath: decoder.codingPath,
        debugDescription: first.message,
        underlyingError: RetractedProblems(problems: retracted)
      )
      throw DecodingError.typeMismatch(type, context)
    }
    guard let read, !decoder.value.isBroken else { throw ConfigAbort() }
    return read
  }
}
