import MagicalaneCore

/// The query of one request, of which a handler knows every parameter.
struct Query {
  private var values: [String: String] = [:]

  /// - Throws: 400 for a parameter that is unknown or given twice, which would otherwise do nothing unseen.
  init(_ request: AdminRequest, _ known: String...) throws(Problem) {
    for item in request.target.query {
      guard known.contains(item.name) else {
        let takes = known.isEmpty ? "it takes none" : "it takes \(known.joined(separator: ", "))"
        throw Problem(400, detail: "unknown query parameter '\(item.name)'; \(takes)")
      }
      guard values.updateValue(item.value, forKey: item.name) == nil else {
        throw Problem(400, detail: "query parameter '\(item.name)' is given twice")
      }
    }
  }

  subscript(name: String) -> String? { values[name] }

  /// - Throws: 400 where it is something else than `true` or `false`.
  func flag(_ name: String) throws(Problem) -> Bool {
    guard let text = values[name] else { return false }
    guard let value = Bool(text) else { throw wrong(name, "true or false", text) }
    return value
  }

  /// - Throws: 400 where it is no integer within the range.
  func integer(_ name: String, in range: ClosedRange<Int>, default usual: Int) throws(Problem) -> Int {
    guard let text = values[name] else { return usual }
    guard let value = Int(text), range.contains(value), "\(value)" == text else {
      throw wrong(name, "an integer from \(range.lowerBound) to \(range.upperBound)", text)
    }
    return value
  }

  /// - Throws: 400 where it is none of the cases.
  func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, _: Choice.Type) throws(Problem)
    -> Choice?
  where Choice.RawValue == String {
    guard let text = values[name] else { return nil }
    guard let value = Choice(rawValue: text) else {
      let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw wrong(name, "one of \(names)", text)
    }
    return value
  }

  private func wrong(_ name: String, _ expected: String, _ found: String) -> Problem {
    Problem(400, detail: "query parameter '\(name)': expected \(expected), found '\(found)'")
  }
}
