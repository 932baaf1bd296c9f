/// A media type such as `application/json; charset=utf-8` (RFC 9110 §8.3.1).
struct MediaType: Sendable, Equatable {
  /// Lower case; `*` within a range of `Accept`.
  var type: String
  /// Lower case; `*` within a range of `Accept`.
  var subtype: String
  /// Names in lower case; values without their quotes.
  var parameters: [Parameter] = []

  /// `charset=utf-8`
  struct Parameter: Sendable, Equatable {
    var name: String
    var value: String
  }

  /// - Returns: nil where it is no `type/subtype` with parameters.
  init?(_ text: String) {
    let parts = text.splitOutsideQuotes(at: ";")
    let essence = parts[0].split(separator: "/", omittingEmptySubsequences: false)
    guard essence.count == 2, essence.allSatisfy({ $0.isToken }) else { return nil }
    type = essence[0].lowercased()
    subtype = essence[1].lowercased()
    for part in parts.dropFirst() where !part.isEmpty {
      let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, halves[0].isToken, let value = String(halves[1]).unquoted else { return nil }
      parameters.append(Parameter(name: halves[0].lowercased(), value: value))
    }
  }

  /// Without the parameters.
  var essence: String { "\(type)/\(subtype)" }

  /// Whether this, as a range, covers a type. Parameters other than `q` must be there with equal values.
  func covers(_ other: MediaType) -> Bool {
    (type == "*" && subtype == "*" || type == other.type && (subtype == "*" || subtype == other.subtype))
      && rangeParameters.allSatisfy { other.parameters.contains($0) }
  }

  fileprivate var rangeParameters: [Parameter] { parameters.filter { $0.name != "q" } }

  /// The more it says, the more it outweighs other ranges (RFC 9110 §12.5.1).
  fileprivate var specificity: Int {
    (type == "*" ? 0 : 1) + (subtype == "*" ? 0 : 1) + rangeParameters.count
  }

  /// 0 to 1; nil where it is malformed.
  fileprivate var quality: Double? {
    guard let text = parameters.first(where: { $0.name == "q" })?.value else { return 1 }
    guard (1...5).contains(text.utf8.count), let value = Double(text), (0...1).contains(value) else {
      return nil
    }
    return value
  }
}

extension AdminRequest {
  /// Picks what to answer with by `Accept` (RFC 9110 §12.5.1).
  ///
  /// - Parameter offered: What the handler can produce, the best first; not empty.
  /// - Returns: One of `offered`.
  /// - Throws: 406 where none is wanted, 400 where the field is malformed.
  func preferredType(of offered: [String]) throws(Problem) -> String {
    let ranges = try acceptedRanges()
    guard !ranges.isEmpty else { return offered[0] }
    var best: (type: String, quality: Double)?
    for text in offered {
      guard let type = MediaType(text) else { continue }
      let deciding = ranges.filter { $0.covers(type) }.max { $0.specificity < $1.specificity }
      let quality = deciding?.quality ?? 0
      if quality > best?.quality ?? 0 { best = (text, quality) }
    }
    guard let best else {
      throw Problem(406, detail: "this can be had as \(offered.joined(separator: ", "))")
    }
    return best.type
  }

  private func acceptedRanges() throws(Problem) -> [MediaType] {
    var ranges: [MediaType] = []
    for part in (headers["accept"] ?? "").splitOutsideQuotes(at: ",") where !part.isEmpty {
      guard let range = MediaType(part), range.quality != nil else {
        throw Problem(400, detail: "Accept: '\(part)' is no media range")
      }
      ranges.append(range)
    }
    return ranges
  }

  /// The type of the body, which must be one of those that the handler reads.
  ///
  /// - Parameter known: Essences such as `application/json`.
  /// - Throws: 415 with `Accept`, or for PATCH with `Accept-Patch` (RFC 5789 §2.2), that names those.
  func contentType(oneOf known: [String]) throws(Problem) -> MediaType {
    let given = headers["content-type"]
    if let type = given.flatMap({ MediaType($0) }), known.contains(type.essence), type.isUTF8 { return type }
    let list = known.joined(separator: ", ")
    let found = given.map { "'\($0)'" } ?? "no Content-Type"
    throw Problem(
      415,
      detail: "expected \(list) in UTF-8, found \(found)",
      headers: [method == "PATCH" ? "Accept-Patch" : "Accept": list]
    )
  }
}

extension MediaType {
  fileprivate var isUTF8: Bool {
    parameters.filter { $0.name == "charset" }.allSatisfy { $0.value.lowercased() == "utf-8" }
  }
}

extension String {
  /// Splits a list, but not within quoted strings; white space around the parts goes.
  func splitOutsideQuotes(at separator: Character) -> [String] {
    var parts = [""]
    var quoted = false
    var escaped = false
    for character in self {
      if character == separator, !quoted {
        parts.append("")
        continue
      }
      if character == "\"", !escaped { quoted.toggle() }
      escaped = quoted && character == "\\" && !escaped
      parts[parts.count - 1].append(character)
    }
    return parts.map(\.trimmedWhitespace)
  }

  /// A token as it is, a quoted string without quotes and backslashes (RFC 9110 §5.6.4); nil for neither.
  fileprivate var unquoted: String? {
    guard hasPrefix("\"") else { return self[...].isToken ? self : nil }
    var text = ""
    var escaped = false
    var rest = dropFirst()
    while let character = rest.popFirst() {
      switch character {
      case _ where escaped:
        text.append(character)
        escaped = false
      case "\\": escaped = true
      case "\"": return rest.isEmpty ? text : nil
      default: text.append(character)
      }
    }
    return nil
  }
}

extension Substring {
  /// RFC 9110 §5.6.2.
  fileprivate var isToken: Bool {
    !isEmpty
      && utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
      }
  }
}
