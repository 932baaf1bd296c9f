import FoundationEssentials

extension Credentials {
  /// The value of `Proxy-Authorization` for these (RFC 7617), in UTF-8.
  package var basicAuthorization: String {
    "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
  }

  /// Reads the value of an `Authorization` or `Proxy-Authorization` field.
  ///
  /// - Returns: nil for another scheme, for what is not base64 of UTF-8, and where no colon ends the name.
  package init?(basicAuthorization value: String) {
    let parts = value.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "basic",
      let bytes = Data(base64Encoded: String(parts[1].drop { $0 == " " })),
      let text = String(validating: bytes, as: UTF8.self),
      let colon = text.utf8.firstIndex(of: UInt8(ascii: ":"))
    else { return nil }
    self.init(user: String(text[..<colon]), password: String(text[text.utf8.index(after: colon)...]))
  }
}
