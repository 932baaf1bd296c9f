import FoundationEssentials

/// JSON as all answers have it: sorted keys, one a line, times as RFC 3339 in UTC.
enum JSONBody {
  static let mediaType = "application/json"

  static func bytes(_ value: some Encodable, pretty: Bool = true) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    encoder.dateEncodingStrategy = .custom { date, encoder in
      var container = encoder.singleValueContainer()
      try container.encode(date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
    }
    // What answers are made of (text, finite numbers, lists, mappings) always encodes.
    guard let data = try? encoder.encode(value) else { return [] }
    return Array(data) + (pretty ? [UInt8(ascii: "\n")] : [])
  }
}

extension AdminResponse {
  /// A value as JSON; fails with 406 where the client takes none.
  static func json(
    _ value: some Encodable,
    for request: AdminRequest,
    status: Int = 200,
    headers: HTTPFields = HTTPFields()
  ) throws(Problem) -> AdminResponse {
    _ = try request.preferredType(of: [JSONBody.mediaType])
    var response = AdminResponse(
      status: status,
      contentType: JSONBody.mediaType,
      body: JSONBody.bytes(value)
    )
    for field in headers.fields { response.headers.add(field.name, field.value) }
    return response
  }
}
