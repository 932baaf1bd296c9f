/// Names as Prometheus takes them, made from whatever an instrument is called.
enum PrometheusName {
  /// Every family of this program starts with it.
  static let prefix = "magicalane_"

  /// The name of a family.
  ///
  /// - Parameter suffix: what the name must end in, such as `_total`.
  static func family(_ label: String, suffix: String = "") -> String {
    var name = snakeCase(label)
    while name.hasPrefix("_") { name.removeFirst() }
    while name.hasSuffix("_") { name.removeLast() }
    if name.isEmpty { name = "unnamed" }
    if !name.hasPrefix(prefix) { name = prefix + name }
    return name.hasSuffix(suffix) ? name : name + suffix
  }

  /// The name of a label.
  static func label(_ name: String) -> String {
    var name = String(String.UnicodeScalarView(name.unicodeScalars.map { isPlain($0) ? $0 : "_" }))
    // Two underscores at the start are kept for Prometheus itself.
    while name.hasPrefix("__") { name.removeFirst() }
    if name.isEmpty { return "_" }
    if name.unicodeScalars.first.map({ ("0"..."9").contains($0) }) == true { name = "_" + name }
    // Histograms use these two themselves.
    return ["le", "quantile"].contains(name) ? "exported_" + name : name
  }

  /// `Some.transportName-x` becomes `some_transport_name_x`.
  private static func snakeCase(_ label: String) -> String {
    var result = String.UnicodeScalarView()
    var previousIsSmall = false
    for scalar in label.unicodeScalars {
      let isCapital = ("A"..."Z").contains(scalar)
      if isCapital && previousIsSmall { result.append("_") }
      if isCapital {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      } else {
        result.append(isPlain(scalar) ? scalar : "_")
      }
      previousIsSmall = ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar)
    }
    return String(result)
  }

  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "a"..."z", "A"..."Z", "0"..."9", "_": true
    default: false
    }
  }
}
