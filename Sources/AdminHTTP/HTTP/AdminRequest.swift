/// One request as its handler sees it: complete, with the escapes of its target resolved.
struct AdminRequest: Sendable {
  /// As sent; methods are case-sensitive (RFC 9110 §9.1).
  var method: String
  /// Path and query.
  var target: RequestTarget
  /// The header fields.
  var headers: HTTPFields
  /// The body; empty where there is none.
  var body: [UInt8]
  /// Whether the client came over a Unix-domain socket.
  var isLocalSocket: Bool

  init(
    method: String,
    target: RequestTarget,
    headers: HTTPFields = HTTPFields(),
    body: [UInt8] = [],
    isLocalSocket: Bool = false
  ) {
    self.method = method
    self.target = target
    self.headers = headers
    self.body = body
    self.isLocalSocket = isLocalSocket
  }

  /// The path, split at its slashes, each segment decoded.
  var segments: [String] { target.segments }

  /// The first query item of this name.
  func query(_ name: String) -> String? {
    target.query.first { $0.name == name }?.value
  }

  /// The host that the client meant: of the target where it names one (RFC 9112 §3.2.2), else of `Host`.
  var authority: String? { target.authority ?? headers["host"] }
}

/// Header fields in their order; names compare without regard to case (RFC 9110 §5.1).
struct HTTPFields: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  /// One line of a head.
  struct Field: Sendable, Equatable {
    var name: String
    var value: String
  }

  private(set) var fields: [Field] = []

  init() {}

  init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map(Field.init)
  }

  /// The value; several lines of the same name are joined by commas (RFC 9110 §5.2). Setting replaces all
  /// of them, and nil removes them.
  subscript(name: String) -> String? {
    get {
      let all = values(name)
      return all.isEmpty ? nil : all.joined(separator: ", ")
    }
    set {
      fields.removeAll { $0.name.isSameFieldName(as: name) }
      if let newValue { add(name, newValue) }
    }
  }

  /// The value of each line of this name.
  func values(_ name: String) -> [String] {
    fields.filter { $0.name.isSameFieldName(as: name) }.map(\.value)
  }

  /// One more line.
  mutating func add(_ name: String, _ value: String) {
    fields.append(Field(name: name, value: value))
  }
}

extension String {
  /// Equal but for the case of ASCII letters.
  func isSameFieldName(as other: String) -> Bool {
    utf8.count == other.utf8.count
      && zip(utf8, other.utf8).allSatisfy { $0.asciiLowercased == $1.asciiLowercased }
  }

  /// Without the white space that HTTP allows around values: spaces and tabs.
  var trimmedWhitespace: String {
    let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x09 }
    guard let first = utf8.firstIndex(where: { !isSpace($0) }),
      let last = utf8.lastIndex(where: { !isSpace($0) })
    else { return "" }
    return String(self[first...last])
  }
}

extension UInt8 {
  fileprivate var asciiLowercased: UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) ? self | 0x20 : self
  }
}
