/// How the body of a request is delimited (RFC 9112 §6), and what of it is refused.
///
/// The library lets Content-Length and Transfer-Encoding stand side by side, which two programs may read
/// differently (request smuggling), and takes the first of several lengths.
enum RequestFraming: Equatable {
  case none
  case length(UInt64)
  case chunked

  init(_ headers: HTTPFields) throws(Problem) {
    let lengths = headers.values("content-length")
    let codings = headers.values("transfer-encoding")
    guard headers.values("host").count < 2 else { throw Problem(400, detail: "more than one Host") }
    guard lengths.isEmpty || codings.isEmpty else {
      throw Problem(400, detail: "Content-Length and Transfer-Encoding exclude each other")
    }
    guard lengths.count < 2 else { throw Problem(400, detail: "more than one Content-Length") }
    if let coding = codings.first {
      guard codings.count == 1, coding.lowercased() == "chunked" else {
        throw Problem(501, detail: "the only Transfer-Encoding known here is chunked")
      }
      self = .chunked
    } else if let text = lengths.first {
      guard let length = UInt64(text), text.utf8.first != UInt8(ascii: "+") else {
        throw Problem(400, detail: "Content-Length is no number")
      }
      self = length == 0 ? .none : .length(length)
    } else {
      self = .none
    }
  }
}
