/// What a request line asks for (RFC 9112 §3.2): origin form, or absolute form with an authority.
struct RequestTarget: Sendable, Equatable {
  /// `name=value` of the query; the value of an item without `=` is empty.
  struct QueryItem: Sendable, Equatable {
    var name: String
    var value: String
  }

  /// The host and port of the absolute form.
  var authority: String?
  /// The path as sent.
  var path: String
  /// The path split at its slashes, each segment decoded. `/` alone has none, and a slash at the end leaves
  /// an empty segment.
  var segments: [String]
  /// In the order sent.
  var query: [QueryItem]

  /// Reads a target as the client sent it.
  ///
  /// - Returns: nil where it has neither form, or where an escape is malformed or not UTF-8.
  init?(_ text: String) {
    var rest = text[...]
    if let scheme = ["http://", "https://"].first(where: { text.lowercased().hasPrefix($0) }) {
      rest = rest.dropFirst(scheme.count)
      let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
      authority = String(rest[..<end])
      rest = rest[end...]
      if !rest.hasPrefix("/") { rest = "/" + rest }
    }
    guard rest.hasPrefix("/") else { return nil }
    let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    path = String(parts[0])
    guard let segments = Self.segments(of: parts[0]),
      let query = Self.items(of: parts.count > 1 ? parts[1] : "")
    else { return nil }
    self.segments = segments
    self.query = query
  }

  private static func segments(of path: Substring) -> [String]? {
    guard path != "/" else { return [] }
    let raw = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    let decoded = raw.compactMap { $0.percentDecoded() }
    return decoded.count == raw.count ? decoded : nil
  }

  private static func items(of query: Substring) -> [QueryItem]? {
    let raw = query.split(separator: "&")
    let items = raw.compactMap { item -> QueryItem? in
      let halves = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = halves[0].percentDecoded(plusIsSpace: true),
        let value = (halves.count > 1 ? halves[1] : "").percentDecoded(plusIsSpace: true)
      else { return nil }
      return QueryItem(name: name, value: value)
    }
    return items.count == raw.count ? items : nil
  }
}

extension Substring {
  /// Resolves `%41` (RFC 3986 §2.1), and `+` as a space where a form would.
  fileprivate func percentDecoded(plusIsSpace: Bool = false) -> String? {
    var bytes: [UInt8] = []
    var rest = utf8[...]
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "%"):
        guard let high = rest.popFirst()?.hexDigitValue, let low = rest.popFirst()?.hexDigitValue else {
          return nil
        }
        bytes.append(high << 4 | low)
      case UInt8(ascii: "+") where plusIsSpace: bytes.append(UInt8(ascii: " "))
      default: bytes.append(byte)
      }
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension UInt8 {
  fileprivate var hexDigitValue: UInt8? {
    switch self {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
