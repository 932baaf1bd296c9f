/// One event of `text/event-stream` (WHATWG HTML §9.2).
struct ServerSentEvent: Sendable, Equatable {
  static let mediaType = "text/event-stream"
  /// A line that clients skip: something to send when there is nothing to say.
  static let comment: [UInt8] = Array(":\n\n".utf8)

  /// What the client gives back as `Last-Event-ID`.
  var id: String?
  /// The kind; nil is `message`.
  var event: String?
  /// May have several lines.
  var data: String
  /// How long the client waits before it connects again, in milliseconds.
  var retry: Int?

  init(id: String? = nil, event: String? = nil, data: String, retry: Int? = nil) {
    self.id = id
    self.event = event
    self.data = data
    self.retry = retry
  }

  /// As it goes over the wire. Line ends within `id` and `event` would start a new field, so they go; within
  /// `data` each line becomes a field of its own.
  var bytes: [UInt8] {
    var text = ""
    if let retry { text += "retry: \(retry)\n" }
    if let id { text += "id: \(id.filter { !$0.isNewline && $0 != "\0" })\n" }
    if let event { text += "event: \(event.filter { !$0.isNewline })\n" }
    for line in Self.lines(of: data) { text += "data: \(line)\n" }
    return Array((text + "\n").utf8)
  }

  /// Only CR, LF and CRLF end a line here; a form feed or a line separator does not.
  private static func lines(of text: String) -> [String] {
    text.split(omittingEmptySubsequences: false) { $0 == "\r\n" || $0 == "\n" || $0 == "\r" }.map(String.init)
  }
}
