/// One member of a `Proxy-Status` field (RFC 9209): what one proxy on the way says about a response.
package struct ProxyStatus: Equatable, Sendable {
  /// The name by which the proxy calls itself.
  package var proxy: String
  /// A proxy error type of RFC 9209 §2.3, such as `connection_refused`.
  package var error: String?
  /// Our extension parameter: tells apart what has one error type in the registry. Others ignore it.
  package var cause: String?
  /// One line for people.
  package var details: String?

  package init(proxy: String, error: String? = nil, cause: String? = nil, details: String? = nil) {
    self.proxy = proxy
    self.error = error
    self.cause = cause
    self.details = details
  }
}

extension ProxyStatus: CustomStringConvertible {
  /// Most characters of `details` that are sent.
  static let detailsLimit = 256

  /// The field value. `proxy`, `error` and `cause` must be tokens; `details` may be any text, of which
  /// what a structured string cannot hold (RFC 8941 §3.3.3) is replaced by `?`.
  package var description: String {
    var text = proxy
    if let error { text += "; error=\(error)" }
    if let cause { text += "; cause=\(cause)" }
    if let details { text += "; details=\(quoted(details.unicodeScalars.prefix(Self.detailsLimit)))" }
    return text
  }
}

private func quoted(_ text: Substring.UnicodeScalarView) -> String {
  let inside = text.map { scalar in
    switch scalar {
    case "\"", "\\": "\\\(scalar)"
    case " "..."~": "\(scalar)"
    default: "?"
    }
  }
  return "\"\(inside.joined())\""
}

extension ProxyStatus {
  /// Reads the lines of a `Proxy-Status` field: the proxy nearest to the target first.
  ///
  /// A field that breaks the syntax says nothing: the result is empty (RFC 8941 §4.2).
  package static func parse(_ values: [String]) -> [ProxyStatus] {
    var parser = ListParser(values.joined(separator: ","))
    return parser.members() ?? []
  }
}

/// Reads the part of the list syntax of RFC 8941 that `Proxy-Status` uses: strings and tokens with parameters.
private struct ListParser {
  private var rest: Substring.UTF8View

  init(_ text: String) {
    rest = Substring(text).utf8
  }

  mutating func members() -> [ProxyStatus]? {
    var members: [ProxyStatus] = []
    skipWhitespace()
    while !rest.isEmpty {
      guard let member = member() else { return nil }
      members.append(member)
      skipWhitespace()
      guard !rest.isEmpty else { break }
      guard take(",") else { return nil }
      skipWhitespace()
      guard !rest.isEmpty else { return nil }
    }
    return members
  }

  private mutating func member() -> ProxyStatus? {
    guard let proxy = item() else { return nil }
    var member = ProxyStatus(proxy: proxy)
    while take(";") {
      skipWhitespace()
      guard let key = run(of: isKeyByte) else { return nil }
      var value: String?
      if take("=") {
        value = item()
        guard value != nil else { return nil }
      }
      switch key {
      case "error": member.error = value
      case "cause": member.cause = value
      case "details": member.details = value
      default: break
      }
    }
    return member
  }

  /// A string without its quotes, or anything else (token, number, bytes) as it stands.
  private mutating func item() -> String? {
    take("\"") ? string() : run(of: isBareByte)
  }

  /// The text up to the closing quote, which is taken as well.
  private mutating func string() -> String? {
    var text = ""
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "\""):
        return text
      case UInt8(ascii: "\\"):
        guard let escaped = rest.popFirst(), escaped == UInt8(ascii: "\"") || escaped == UInt8(ascii: "\\")
        else {
          return nil
        }
        text.unicodeScalars.append(Unicode.Scalar(escaped))
      case 0x20...0x7e:
        text.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        return nil
      }
    }
    return nil
  }

  private mutating func run(of isWanted: (UInt8) -> Bool) -> String? {
    let run = rest.prefix(while: isWanted)
    guard !run.isEmpty else { return nil }
    rest = rest.dropFirst(run.count)
    return String(Substring(run))
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard rest.first == UInt8(ascii: character) else { return false }
    rest.removeFirst()
    return true
  }

  private mutating func skipWhitespace() {
    rest = rest.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
  }
}

private func isKeyByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
  default: "_-.*".utf8.contains(byte)
  }
}

/// Token bytes, and those that numbers, booleans and byte sequences add.
private func isBareByte(_ byte: UInt8) -> Bool {
  isTokenByte(byte) || ":/?=".utf8.contains(byte)
}
