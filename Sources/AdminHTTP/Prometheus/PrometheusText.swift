/// The Prometheus text format, version 0.0.4, while it is written.
///
/// One family follows the other: `family`, then its samples.
struct PrometheusText {
  /// What the format calls the kinds of a family.
  enum Kind: String, Sendable {
    case counter, gauge, histogram
  }

  private(set) var text = ""

  mutating func family(_ name: String, _ kind: Kind, help: String) {
    text += "# HELP \(name) \(PrometheusText.escapedHelp(help))\n# TYPE \(name) \(kind.rawValue)\n"
  }

  /// - Parameters:
  ///   - labels: as `labels(_:)` yields them.
  ///   - bound: of a histogram's bucket.
  mutating func sample(
    _ name: String,
    _ labels: String,
    bound: String? = nil,
    _ value: some BinaryInteger & CustomStringConvertible
  ) {
    line(name, labels, bound, value.description)
  }

  mutating func sample(_ name: String, _ labels: String, _ value: Double) {
    line(name, labels, nil, PrometheusText.number(value))
  }

  private mutating func line(_ name: String, _ labels: String, _ bound: String?, _ value: String) {
    text += name
    if !labels.isEmpty || bound != nil {
      text += "{"
      text += labels
      if let bound {
        if !labels.isEmpty { text += "," }
        text += "le=\"\(bound)\""
      }
      text += "}"
    }
    text += " "
    text += value
    text += "\n"
  }
}

extension PrometheusText {
  /// A number as short as it can be told; whole ones without a point.
  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    // Up to here every whole number has a value of its own.
    if value.magnitude < 9e15, value == value.rounded() { return "\(Int64(value))" }
    return "\(value)"
  }

  /// Labels in the one way they are written: `a="b",c="d"`, sorted by name.
  ///
  /// An empty value is left out, for it means the same as no label. Where two names become the same, the first
  /// one holds.
  static func labels(_ dimensions: [(String, String)]) -> String {
    var values: [String: String] = [:]
    for (name, value) in dimensions where !value.isEmpty {
      let name = PrometheusName.label(name)
      if values[name] == nil { values[name] = value }
    }
    return values.sorted { $0.key < $1.key }
      .map { "\($0.key)=\"\(escapedValue($0.value))\"" }
      .joined(separator: ",")
  }

  // By scalars, for a line feed behind a carriage return is no character of its own.
  private static func escapedValue(_ value: String) -> String {
    escaped(value) { $0 == "\"" ? "\\\"" : nil }
  }

  private static func escapedHelp(_ help: String) -> String {
    escaped(help) { _ in nil }
  }

  private static func escaped(_ text: String, _ other: (Unicode.Scalar) -> String?) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result.append(contentsOf: "\\\\".unicodeScalars)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      // Some parsers take it for the end of the text.
      case "\0": result.append("\u{FFFD}")
      default:
        if let escape = other(scalar) {
          result.append(contentsOf: escape.unicodeScalars)
        } else {
          result.append(scalar)
        }
      }
    }
    return String(result)
  }
}
