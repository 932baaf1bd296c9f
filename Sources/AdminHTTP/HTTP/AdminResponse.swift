/// What a handler answers.
struct AdminResponse: Sendable {
  /// What follows the head.
  enum Body: Sendable {
    case bytes([UInt8])
    /// Bytes as they come, until the stream ends.
    case stream(any ResponseStream)
  }

  /// 200 to 599.
  var status: Int
  /// The daemon adds length, date and what keeps answers out of caches.
  var headers: HTTPFields
  var body: Body

  init(status: Int, headers: HTTPFields = HTTPFields(), body: Body = .bytes([])) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// A body of bytes with its media type.
  init(status: Int = 200, contentType: String, body: [UInt8]) {
    self.init(status: status, headers: ["Content-Type": contentType], body: .bytes(body))
  }

  /// An error as `application/problem+json`.
  init(_ problem: Problem) {
    self.init(status: problem.status, contentType: Problem.mediaType, body: problem.json)
    for field in problem.headers.fields { headers.add(field.name, field.value) }
  }
}

/// A body that comes into being while it is sent, such as events.
///
/// The daemon pulls: it calls `next` when the client can take more, so a slow client costs no more than what
/// the stream itself keeps. `start`, `next`, `heartbeat` and `cancel` come from threads of the daemon, never
/// from an event loop. `heartbeat` may overlap with the others.
protocol ResponseStream: AnyObject, Sendable {
  /// Comes once, before anything else.
  ///
  /// - Parameter wake: To be called, from any thread, whenever `next` has something new to say after it gave
  ///   nothing. It never blocks. A call too many does no harm, and none is lost.
  func start(wake: @escaping @Sendable () -> Void)
  /// The next bytes, `max` of them at most; empty where there is nothing now; nil at the end.
  func next(max: Int) -> [UInt8]?
  /// Comes at each heartbeat. A stream that has been silent gives a comment or the like to its next `next`,
  /// so that middleboxes and the client's own time-outs see that it lives.
  func heartbeat()
  /// Comes once, at the end of the stream or when the client is gone. No `next` comes after it.
  func cancel()
}
