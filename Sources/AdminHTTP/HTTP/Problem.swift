import FoundationEssentials

/// An error as `application/problem+json` (RFC 9457). Handlers throw it or answer with it.
struct Problem: Error, Sendable, Equatable {
  /// One fault of several.
  struct Fault: Sendable, Equatable {
    /// What is wrong, for humans.
    var detail: String
    /// Where in the request's body; nil where it lies outside.
    var pointer: JSONPointer?
    /// Where in the whole config, as it would be.
    var configPointer: JSONPointer?
    /// Where in the text of the body, both from 1.
    var line: Int?
    var column: Int?
  }

  static let mediaType = "application/problem+json"

  /// A URI that names the kind of problem.
  var type: String
  /// The kind in a few words, the same each time.
  var title: String
  /// 400 to 599.
  var status: Int
  /// What is wrong this time.
  var detail: String?
  /// A URI reference to this one occurrence.
  var instance: String?
  /// How far a change of the config came.
  var step: String?
  /// Each fault of the body.
  var errors: [Fault] = []
  /// Header fields that the status asks for, such as `Allow`; no part of the body.
  var headers = HTTPFields()

  /// - Parameters:
  ///   - kind: the last part of `type`; nil for the one kind that most often has this status.
  ///   - title: nil for the status's own name.
  init(
    _ status: Int,
    kind: String? = nil,
    title: String? = nil,
    detail: String? = nil,
    instance: String? = nil,
    errors: [Fault] = [],
    headers: HTTPFields = HTTPFields()
  ) {
    self.title = title ?? Self.reason(of: status)
    let usual = status == 500 ? "internal" : Self.reason(of: status).lowercased().replacing(" ", with: "-")
    type = "urn:magicalane:problem:\(kind ?? usual)"
    self.status = status
    self.detail = detail
    self.instance = instance
    self.errors = errors
    self.headers = headers
  }

  /// The body, in UTF-8.
  var json: [UInt8] { JSONBody.bytes(self) }

  /// The names of RFC 9110 §15 and RFC 6585 for what this API answers.
  private static func reason(of status: Int) -> String {
    switch status {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 406: "Not Acceptable"
    case 409: "Conflict"
    case 410: "Gone"
    case 411: "Length Required"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 415: "Unsupported Media Type"
    case 422: "Unprocessable Content"
    case 428: "Precondition Required"
    case 429: "Too Many Requests"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    default: "Error"
    }
  }
}

extension Problem: Encodable {
  private struct Member: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { nil }
  }

  func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: Member.self)
    try members.encode(type, forKey: Member("type"))
    try members.encode(title, forKey: Member("title"))
    try members.encode(status, forKey: Member("status"))
    try members.encodeIfPresent(detail, forKey: Member("detail"))
    try members.encodeIfPresent(instance, forKey: Member("instance"))
    try members.encodeIfPresent(step, forKey: Member("step"))
    guard !errors.isEmpty else { return }
    var list = members.nestedUnkeyedContainer(forKey: Member("errors"))
    for fault in errors {
      var item = list.nestedContainer(keyedBy: Member.self)
      try item.encode(fault.detail, forKey: Member("detail"))
      try item.encodeIfPresent(fault.pointer?.uriFragment, forKey: Member("pointer"))
      try item.encodeIfPresent(fault.configPointer?.uriFragment, forKey: Member("config_pointer"))
      try item.encodeIfPresent(fault.line, forKey: Member("line"))
      try item.encodeIfPresent(fault.column, forKey: Member("column"))
    }
  }
}

/// A place in a JSON document (RFC 6901).
struct JSONPointer: Sendable, Equatable {
  /// Keys and list indexes, outermost first; none is the whole document.
  var path: [String]

  init(_ path: [String]) {
    self.path = path
  }

  /// `/a~1b/0`: `~` and `/` within a key are escaped.
  var text: String {
    path.map { "/" + $0.replacing("~", with: "~0").replacing("/", with: "~1") }.joined()
  }

  /// As a URI fragment (§6): `#/a~1b/0`, what RFC 3986 does not allow in one in percent escapes.
  var uriFragment: String {
    "#" + text.utf8.map(Self.escaped).joined()
  }

  private static func escaped(_ byte: UInt8) -> String {
    let plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?"
    guard !plain.utf8.contains(byte) else { return String(UnicodeScalar(byte)) }
    let digits = String(byte, radix: 16, uppercase: true)
    return "%" + (digits.count == 1 ? "0" : "") + digits
  }
}
