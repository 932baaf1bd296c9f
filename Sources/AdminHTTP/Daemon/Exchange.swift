import CMicrohttpd
import Synchronization

/// One request on its way to its response.
///
/// ```
/// head ──► body ──► asked ──► answered ──► over
///   └────────┴── refused ────────┘
/// ```
///
/// Made when the request line is there, over when the library says so; in between it is retained by the
/// library's context pointer. The library's thread drives it. Two things come from elsewhere: the handler's
/// answer and a stream's wake; they meet the thread under the engine's lock.
final class Exchange: @unchecked Sendable {  // the fields say what guards them
  /// What the access callback does next.
  enum Step {
    /// Return and wait for more of the request, or for the resume.
    case wait
    /// Queue this.
    case respond(AdminResponse)
    /// Close the connection.
    case abandon
  }

  let engine: DaemonEngine
  let connectionID: ConnectionTable.ID
  /// Owned by the library; good until the exchange is over, and for as long as it is suspended.
  private let connection: OpaquePointer

  // Under the engine's lock.
  private var isSuspended = false
  private var isOver = false
  private var answer: AdminResponse?
  private var hasWoken = false
  private var handling: Task<Void, Never>?
  private var stream: (any ResponseStream)?

  // The library's thread alone.
  private let target: String
  private var request: AdminRequest?
  private var refusal: AdminResponse?
  private var framing = RequestFraming.none
  private var received = 0
  private var body: [UInt8] = []
  private var reserved = 0
  private(set) var hasBegun = false
  private var wasAsked = false
  private var leftOver: ArraySlice<UInt8> = []

  /// Whether a wake is on its way already, so that a thousand events make one.
  private let isWaking = Atomic(false)

  init(engine: DaemonEngine, connection: OpaquePointer, id: ConnectionTable.ID, target: String) {
    self.engine = engine
    self.connection = connection
    self.connectionID = id
    self.target = target
  }

  // MARK: Request

  /// The head is complete. A refusal closes the connection here where the body cannot or need not be read.
  func begin(method: String, headers: HTTPFields) -> Step {
    hasBegun = true
    guard let target = RequestTarget(target) else {
      return refuse(Problem(400, detail: "the request's target is malformed"), headers)
    }
    let request = AdminRequest(
      method: method,
      target: target,
      headers: headers,
      isLocalSocket: engine.isLocalSocket(connectionID)
    )
    self.request = request
    do throws(Problem) {
      framing = try RequestFraming(headers)
    } catch {
      return .respond(AdminResponse(error).closing)
    }
    if engine.isDraining {
      return refuse(AdminResponse(Problem(503, detail: "the program is stopping")).closing, headers)
    }
    if let refusal = engine.admit(request) { return refuse(refusal, headers) }
    if case .length(let length) = framing, length > UInt64(engine.limits.body) {
      return refuse(tooLong, headers)
    }
    return .wait
  }

  /// More of the body.
  func receive(_ bytes: UnsafeRawBufferPointer) -> Step {
    received += bytes.count
    if refusal == nil {
      if received > engine.limits.body {
        refusal = tooLong
      } else if !engine.reserve(bytes.count) {
        refusal = AdminResponse(Problem(503, detail: "too many large requests at once"))
      } else {
        reserved += bytes.count
        body.append(contentsOf: bytes)
      }
    }
    if refusal != nil { body = [] }
    return received > engine.limits.body + engine.limits.discard ? .abandon : .wait
  }

  /// The request is complete, or the connection was resumed.
  func proceed() -> Step {
    if let refusal { return .respond(refusal) }
    if !wasAsked {
      wasAsked = true
      engine.enter(.quiet, connectionID)
      ask()
    }
    return engine.locked {
      if let answer {
        self.answer = nil
        return .respond(answer)
      }
      return suspendUnlessHalted() ? .wait : .abandon
    }
  }

  private func ask() {
    guard var request, let handler = engine.handler else { return }
    request.body = body
    body.removeAll()
    let asked = request
    let task = Task { self.settle(await handler(asked)) }
    engine.locked { handling = task }
  }

  private func refuse(_ problem: Problem, _ headers: HTTPFields) -> Step {
    refuse(AdminResponse(problem), headers)
  }

  /// A client that waits for `100 Continue` gets the answer at once. Another one sends its body first; to
  /// close with that unread would make the kernel reset the connection, and the answer would be lost.
  private func refuse(_ response: AdminResponse, _ headers: HTTPFields) -> Step {
    refusal = response
    if case .length(let length) = framing, length > UInt64(engine.limits.body + engine.limits.discard) {
      return .respond(response.closing)
    }
    let waits = headers["expect"]?.lowercased() == "100-continue"
    return waits && framing != .none ? .respond(response.closing) : .wait
  }

  private var tooLong: AdminResponse {
    AdminResponse(Problem(413, detail: "the body may have \(engine.limits.body) bytes")).closing
  }

  // MARK: Answer

  /// The handler's answer; from any thread, and harmless when the client or the daemon is gone.
  private func settle(_ response: AdminResponse) {
    let isLate = engine.locked {
      guard !isOver else { return true }
      answer = response
      resume()
      return false
    }
    if isLate, case .stream(let stream) = response.body { stream.cancel() }
  }

  /// The response is about to be queued.
  func willSend(_ response: AdminResponse) {
    engine.enter(.sending, connectionID)
    guard case .stream(let stream) = response.body else { return }
    engine.locked { self.stream = stream }
    stream.start { [weak self] in self?.wake() }
  }

  /// The library is done with the request, however it ended.
  func finish() {
    let running: [any ResponseStream] = engine.locked {
      isOver = true
      isSuspended = false
      handling?.cancel()
      var streams = [stream].compactMap { $0 }
      if case .stream(let unsent)? = answer?.body { streams.append(unsent) }
      answer = nil
      stream = nil
      return streams
    }
    for stream in running { stream.cancel() }
    engine.release(reserved)
  }

  // MARK: Stream

  /// Fills the library's buffer.
  ///
  /// - Returns: The count; 0 after the connection was suspended; -1 at the end; -2 to break off.
  func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
    while let stream = engine.locked({ stream }) {
      if leftOver.isEmpty {
        switch engine.locked({ outlook() }) {
        case .ends: return -1
        case .breaks: return -2
        case .goesOn: break
        }
        guard let bytes = stream.next(max: buffer.count) else { return -1 }
        leftOver = bytes[...]
      }
      if !leftOver.isEmpty {
        let count = min(leftOver.count, buffer.count)
        buffer.copyBytes(from: leftOver.prefix(count))
        leftOver = leftOver.dropFirst(count)
        engine.enter(.sending, connectionID)
        return count
      }
      if engine.locked({ suspendUnlessWoken() }) { return 0 }
    }
    return -1
  }

  private enum Outlook { case goesOn, ends, breaks }

  private func outlook() -> Outlook {
    hasWoken = false
    if engine.isHalted || engine.connections.isShutDown(connectionID) { return .breaks }
    return engine.isDrainingLocked ? .ends : .goesOn
  }

  private func suspendUnlessWoken() -> Bool {
    guard !hasWoken, !engine.isDrainingLocked else { return false }
    engine.connections.enter(.quiet, connectionID, now: .now)
    return suspendUnlessHalted()
  }

  /// The stream has something. It may come from an event loop, which must not wait for the library's lock.
  private func wake() {
    guard !isWaking.exchange(true, ordering: .acquiringAndReleasing) else { return }
    engine.queue.async { self.wakeNow() }
  }

  /// Lets the stream be asked again.
  func wakeNow() {
    isWaking.store(false, ordering: .releasing)
    engine.locked { resume() }
  }

  /// Time for a sign of life, where the response is a stream.
  func heartbeat() {
    guard let stream = engine.locked({ stream }) else { return }
    stream.heartbeat()
    wakeNow()
  }

  /// Whether the response is a stream; under the engine's lock.
  var isStream: Bool { stream != nil }

  // MARK: Suspension, under the engine's lock

  /// Takes the connection out of the library's loop. Nothing may be suspended once the daemon ends.
  private func suspendUnlessHalted() -> Bool {
    guard !engine.isHalted, !engine.connections.isShutDown(connectionID) else { return false }
    MHD_suspend_connection(connection)
    isSuspended = true
    return true
  }

  /// Puts it back. A connection that is not suspended may be freed already, so it is not touched.
  func resume() {
    hasWoken = true
    guard isSuspended, !isOver else { return }
    isSuspended = false
    MHD_resume_connection(connection)
  }
}

extension AdminResponse {
  /// The same, and the connection ends with it.
  var closing: AdminResponse {
    var copy = self
    copy.headers["Connection"] = "close"
    return copy
  }
}
