import Yams

/// Reads YAML text into `ConfigValue`s; beside `RepeatedKeys` the only place that knows the YAML library.
///
/// A file may be hostile: depth and the number of values, aliases followed, are bounded.
struct ConfigDocument {
  private static let greatestDepth = 64
  private static let mostValues = 100_000

  private let text: String
  private let environment: [String: String]
  private let findings: ConfigFindings
  private var repeatedKeys = RepeatedKeys()
  private var repetitions: [(path: [String], first: SourcePosition, second: SourcePosition)] = []
  private var values = 0
  private var faults: [(fault: Substitution.Fault, scalar: SourcePosition, path: [String])] = []

  /// Reads a whole document and reports what is wrong with its form to `findings`.
  ///
  /// - Returns: nil where the text is no YAML or too large; `.null` for a document without content.
  static func read(_ text: String, environment: [String: String], into findings: ConfigFindings)
    -> ConfigValue?
  {
    let text = text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
    if let place = AliasedKeys.find(in: text) {
      let message = "in a file with aliases, a key must be a word, no alias, list or mapping"
      findings.report(message, at: place, path: [])
      return nil
    }
    do {
      var document = ConfigDocument(text, environment, findings)
      if let node = try document.repeatedKeys.compose(text) {
        findings.root = try document.convert(node, path: [])
      }
      document.reportRest()
      return findings.root
    } catch let problem as ConfigProblem {
      findings.report(problem)
    } catch {
      findings.report(syntaxProblem(error, in: text, file: findings.file))
    }
    return nil
  }

  private init(_ text: String, _ environment: [String: String], _ findings: ConfigFindings) {
    self.text = text
    self.environment = environment
    self.findings = findings
  }

  /// Last of all, for what a message calls an entry is known once the whole file is read.
  private func reportRest() {
    for (path, first, second) in repetitions {
      let message = "\(findings.name(of: path)): the key is given twice, first\(findings.at(first))"
      findings.report(findings.problem(message, at: second, path: path))
    }
    guard !faults.isEmpty else { return }
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      .map { Array($0.unicodeScalars) }
    for (fault, scalar, path) in faults {
      report(fault, in: scalar, of: lines, path)
    }
  }

  private mutating func convert(_ node: Node, path: [String]) throws(ConfigProblem) -> ConfigValue {
    let position = SourcePosition(node)
    values += 1
    guard values <= Self.mostValues, path.count <= Self.greatestDepth else {
      let limit =
        values > Self.mostValues
        ? "more than \(Self.mostValues) values, aliases followed" : "more than \(Self.greatestDepth) levels"
      throw findings.problem("the file holds \(limit)", at: position, path: path)
    }
    switch node {
    case .scalar(let scalar):
      return ConfigValue(content: content(of: scalar, position, path), position: position)
    case .sequence(let sequence):
      var items: [ConfigValue] = []
      for (index, item) in sequence.enumerated() {
        items.append(try convert(item, path: path + ["\(index)"]))
      }
      return ConfigValue(content: .sequence(items), position: position)
    case .mapping(let mapping):
      return ConfigValue(content: .mapping(try members(of: mapping, path)), position: position)
    case .alias:
      return ConfigValue(content: .null, position: position)
    }
  }

  // MARK: Mappings

  private mutating func members(
    of mapping: Node.Mapping,
    _ path: [String]
  ) throws(ConfigProblem) -> [ConfigValue.Member] {
    var members: [ConfigValue.Member] = []
    var merged: [ConfigValue.Member] = []
    var places: [String: SourcePosition] = [:]
    for (key, node) in mapping {
      guard let scalar = key.scalar else {
        findings.report("a key must be a single word", at: SourcePosition(key), path: path)
        continue
      }
      let name = repeatedKeys.originals[scalar.string] ?? scalar.string
      let value = try convert(node, path: path + [name])
      if name == "<<", scalar.style == .plain {
        merged += mergeable(value, path)
      } else if let first = places[name] {
        repetitions.append((path + [name], first, SourcePosition(key)))
      } else {
        places[name] = SourcePosition(key)
        members.append(.init(key: name, position: SourcePosition(key), value: value))
      }
    }
    for member in merged where places.updateValue(member.position, forKey: member.key) == nil {
      members.append(member)
    }
    return members
  }

  /// What `<<: value` adds: the members of a mapping, or of a list of mappings of which the first wins.
  private func mergeable(_ value: ConfigValue, _ path: [String]) -> [ConfigValue.Member] {
    switch value.content {
    case .mapping(let members): return members
    case .sequence(let items): return items.flatMap { mergeable($0, path) }
    case .null, .scalar, .broken:
      findings.report(
        "'<<': expected a mapping to merge, found \(value.found)",
        at: value.position,
        path: path + ["<<"]
      )
      return []
    }
  }

  // MARK: Scalars

  private mutating func content(
    of scalar: Node.Scalar,
    _ position: SourcePosition,
    _ path: [String]
  ) -> ConfigValue.Content {
    let isPlain = scalar.style == .plain
    if isPlain, ["", "~", "null", "Null", "NULL"].contains(scalar.string) { return .null }
    let substitution = Substitution(scalar.string, environment: environment)
    faults += substitution.faults.map { ($0, position, path) }
    guard substitution.faults.isEmpty else { return .broken }
    let isReplaced = substitution.text != scalar.string
    return .scalar(.init(text: substitution.text, written: scalar.string, isPlain: isPlain || isReplaced))
  }

  private func report(
    _ fault: Substitution.Fault,
    in scalar: SourcePosition,
    of lines: [[Unicode.Scalar]],
    _ path: [String]
  ) {
    let name = findings.name(of: path)
    switch fault {
    case .missing(let variable):
      let place = Self.position(of: "${\(variable)}", after: scalar, in: lines)
      findings.report(
        findings.problem("\(name): environment variable '\(variable)' is not set", at: place, path: path)
      )
    case .malformed:
      let place = Self.position(of: "${", after: scalar, in: lines)
      let message = "\(name): expected a name and '}' after '${'; write $${ for a literal ${"
      findings.report(findings.problem(message, at: place, path: path))
    }
  }

  /// Where `reference` stands in the scalar that begins at `scalar`; the scalar itself where escapes hide it.
  private static func position(
    of reference: String,
    after scalar: SourcePosition,
    in lines: [[Unicode.Scalar]]
  ) -> SourcePosition {
    var start = scalar.column - 1
    for (index, line) in lines.enumerated().dropFirst(scalar.line - 1).prefix(64) {
      while let dollar = line.dropFirst(start).firstIndex(of: "$") {
        let rest = line[dollar...]
        let isEscaped = rest.starts(with: "$${".unicodeScalars)
        if !isEscaped, rest.starts(with: reference.unicodeScalars) {
          return SourcePosition(line: index + 1, column: dollar + 1)
        }
        start = dollar + (isEscaped ? 3 : 1)
      }
      start = 0
    }
    return scalar
  }
}

// MARK: Syntax errors

extension ConfigDocument {
  private static func syntaxProblem(_ error: any Error, in text: String, file: String) -> ConfigProblem {
    var position = SourcePosition.start
    let message: String
    switch error as? YamlError {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _):
      position = SourcePosition(line: mark.line, column: mark.column)
      message = "not valid YAML: \(problem)\(context.map { " \($0.text)" } ?? "")\(hint(position, text))"
    case .composer(let context, let problem, let mark, _):
      position = SourcePosition(line: mark.line, column: mark.column)
      message = "not valid YAML: \(context.map { "\($0.text) " } ?? "")\(problem)"
    case .reader(let problem, let offset, _, _):
      position = SourcePosition(offset: offset ?? 0, in: text)
      message = "not valid YAML: \(problem)"
    case .duplicatedKeysInMapping(let keys, let context):
      position = SourcePosition(line: context.mark.line, column: context.mark.column)
      message = "key \(keys.map(\.quotedForMessage).joined(separator: ", ")) is given twice"
    default:
      message = "not valid YAML: \(error)"
    }
    return ConfigProblem(file: file, line: position.line, column: position.column, message: message)
  }

  /// For the mistake that this file format invites: in a flow mapping, YAML takes the brace of `${` for its own.
  private static func hint(_ position: SourcePosition, _ text: String) -> String {
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    guard lines.indices.contains(position.line - 1), lines[position.line - 1].contains("${") else {
      return ""
    }
    return "; inside { } and [ ], \"${NAME}\" needs quotes"
  }
}

extension SourcePosition {
  fileprivate init(_ node: Node) {
    self.init(line: node.mark?.line ?? 1, column: node.mark?.column ?? 1)
  }

  /// The place `offset` characters into the text.
  fileprivate init(offset: Int, in text: String) {
    let lines = text.prefix(offset).split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    self.init(line: lines.count, column: (lines.last?.unicodeScalars.count ?? 0) + 1)
  }
}
