import Foundation
import Logging
import NIOConcurrencyHelpers
import Testing

@testable import MagicalaneAdminHTTP

private let quick: HTTPLimits = {
  var limits = HTTPLimits()
  limits.body = 100_000
  limits.discard = 100_000
  limits.sweep = .milliseconds(20)
  limits.heartbeat = .milliseconds(50)
  return limits
}()

/// Answers with what it got.
private let echo: DaemonEngine.Handler = { request in
  let text = "\(request.method) \(request.segments) \(request.isLocalSocket) \(request.body.count)"
  return AdminResponse(contentType: "text/plain", body: Array(text.utf8))
}

private func withDaemon(
  limits: HTTPLimits = quick,
  admit: @escaping DaemonEngine.Admission = { _ in nil },
  handler: @escaping DaemonEngine.Handler = echo,
  _ body: @escaping @Sendable (AdminSocket) throws -> Void
) async throws {
  let socket = try #require(try AdminSocket.bind("127.0.0.1:0").first)
  let daemon = try HTTPDaemon(
    sockets: [socket],
    limits: limits,
    logger: Logger(label: "test"),
    admit: admit,
    handler: handler
  )
  let result = await Result { try await blocking { try body(socket) } }
  await daemon.stop()
  try result.get()
}

extension Result where Failure == any Error {
  fileprivate init(catching body: () async throws -> Success) async {
    do { self = .success(try await body()) } catch { self = .failure(error) }
  }
}

private let head = "HTTP/1.1\r\nHost: localhost\r\n"

/// A stream that says what it is told to.
private final class Feed: ResponseStream {
  struct State {
    var waiting: [UInt8] = []
    var isEnded = false
    var heartbeats = 0
    var cancels = 0
    var wake: (@Sendable () -> Void)?
  }

  let state = NIOLockedValueBox(State())

  func start(wake: @escaping @Sendable () -> Void) { state.withLockedValue { $0.wake = wake } }

  func next(max: Int) -> [UInt8]? {
    state.withLockedValue { state in
      if state.waiting.isEmpty && state.isEnded { return nil }
      let bytes = Array(state.waiting.prefix(max))
      state.waiting.removeFirst(bytes.count)
      return bytes
    }
  }

  func heartbeat() {
    state.withLockedValue { state in
      state.heartbeats += 1
      state.waiting += ServerSentEvent.comment
    }
  }

  func cancel() { state.withLockedValue { $0.cancels += 1 } }

  func say(_ text: String, end: Bool = false) {
    state.withLockedValue { state -> (@Sendable () -> Void)? in
      state.waiting += Array(text.utf8)
      state.isEnded = end
      return state.wake
    }?()
  }

  /// Waits for what comes without a notice, for five seconds at most.
  func waits(for condition: (State) -> Bool) -> Bool {
    for _ in 0..<500 {
      if state.withLockedValue({ condition($0) }) { return true }
      usleep(10_000)
    }
    return false
  }
}

@Suite(.timeLimit(.minutes(1))) struct HTTPDaemonTests {
  @Test func `a connection carries one request after the other`() async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      for number in 1...3 {
        let answer = try client.exchange("GET /a%2Fb/\(number) \(head)\r\n")
        #expect(answer.status == 200)
        #expect(answer.hasSuffix("GET [\"a/b\", \"\(number)\"] false 0"))
        #expect(answer.contains("Cache-Control: no-store\r\n"))
        #expect(answer.contains("X-Content-Type-Options: nosniff\r\n"))
      }
    }
  }

  @Test func `HEAD gets the head of GET`() async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      let answer = try client.exchange("HEAD / \(head)\r\n" + "GET / \(head)Connection: close\r\n\r\n")
      let both = try answer + client.readToEnd()
      #expect(both.contains("Content-Length: 15\r\n"))
      #expect(both.components(separatedBy: "HTTP/1.1 200 OK").count == 3)
      #expect(!both.contains("HEAD []"))
    }
  }

  @Test func `answers without a body leave the connection in step`() async throws {
    try await withDaemon(handler: { request in
      let status = Int(request.segments[0]) ?? 0
      return AdminResponse(status: status, headers: ["ETag": EntityTag("\(status)").field])
    }) { socket in
      let client = try TestClient(socket)
      for status in [204, 304, 200, 204] {
        let answer = try client.exchange("GET /\(status) \(head)\r\n")
        #expect(answer.status == status)
        #expect(answer.contains("\"\(status)\"\r\n"))
        #expect(answer.afterHead.isEmpty)
      }
    }
  }

  @Test func `a stop does not wait for requests that never end`() async throws {
    var limits = quick
    limits.grace = .seconds(60)
    let socket = try #require(try AdminSocket.bind("127.0.0.1:0").first)
    let daemon = try HTTPDaemon(
      sockets: [socket],
      limits: limits,
      logger: Logger(label: "test"),
      handler: echo
    )
    let client = try await blocking {
      let client = try TestClient(socket)
      _ = try client.exchange("GET / \(head)\r\n")
      try client.send("PUT / \(head)Content-Length: 9\r\n\r\n")
      return Unchecked(client)
    }
    let began = ContinuousClock.now
    await daemon.stop()
    #expect(ContinuousClock.now - began < .seconds(30))
    withExtendedLifetime(client) {}
  }

  @Test func `a body arrives whole, by length and in chunks`() async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      let body = String(repeating: "x", count: 90_000)
      let sized = try client.exchange("PUT / \(head)Content-Length: 90000\r\n\r\n\(body)")
      #expect(sized.hasSuffix("PUT [] false 90000"))
      let chunked = try client.exchange(
        "PUT / \(head)Transfer-Encoding: chunked\r\n\r\n15f90\r\n\(body)\r\n3\r\nabc\r\n0\r\n\r\n"
      )
      #expect(chunked.hasSuffix("PUT [] false 90003"))
    }
  }

  @Test(arguments: [
    ("Content-Length: 150000\r\n\r\n", 150_000),
    ("Transfer-Encoding: chunked\r\n\r\n249f0\r\n", 150_000),
    ("Content-Length: 150000\r\nExpect: 100-continue\r\n\r\n", 0),
    ("Content-Length: 99999999999\r\n\r\n", 0),
  ])
  func `a body that is too long gets 413 and the connection ends`(start: String, count: Int) async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      let end = start.contains("chunked") ? "\r\n0\r\n\r\n" : ""
      try client.send("PUT / \(head)\(start)" + String(repeating: "x", count: count) + end)
      let answer = try client.readToEnd()
      #expect(answer.status == 413)
      #expect(answer.contains("Connection: close\r\n"))
      #expect(answer.afterHead.contains("content-too-large"))
    }
  }

  @Test(arguments: [true, false])
  func `a connection whose client has ended its side ends, after the answer or with it`(isLate: Bool)
    async throws
  {
    try await withDaemon { socket in
      for path in ["/", "/%zz"] {
        let client = try TestClient(socket)
        let request = "GET \(path) \(head)\r\n"
        if isLate { _ = try client.exchange(request) } else { try client.send(request) }
        client.endInput()
        // It fails where the end does not come within the client's patience.
        _ = try client.readToEnd()
      }
    }
  }

  @Test func `an endless body in chunks is cut off`() async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      try client.send("PUT / \(head)Transfer-Encoding: chunked\r\n\r\n")
      let chunk = "2710\r\n" + String(repeating: "x", count: 10_000) + "\r\n"
      #expect(throws: TestClient.Failure.self) {
        for _ in 0..<10_000 { try client.send(chunk) }
      }
    }
  }

  @Test(arguments: [
    ("GET / \(head)Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET / \(head)Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("GET / \(head)Transfer-Encoding: gzip\r\n\r\n", 501),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET /%zz \(head)Connection: close\r\n\r\n", 400),
    ("GET * \(head)Connection: close\r\n\r\n", 400),
  ])
  func `a request that cannot be understood is refused`(request: String, status: Int) async throws {
    try await withDaemon { socket in
      let client = try TestClient(socket)
      try client.send(request)
      #expect(try client.readToEnd().status == status)
    }
  }

  @Test func `a refused head is answered before the body is wanted`() async throws {
    let asked = NIOLockedValueBox(0)
    try await withDaemon(
      admit: { $0.headers["authorization"] == nil ? AdminResponse(Problem(401)) : nil },
      handler: { request in
        asked.withLockedValue { $0 += 1 }
        return await echo(request)
      }
    ) { socket in
      let client = try TestClient(socket)
      try client.send("PUT / \(head)Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
      #expect(try client.readToEnd().status == 401)
      let other = try TestClient(socket)
      #expect(try other.exchange("PUT / \(head)Content-Length: 5\r\n\r\nabcde").status == 401)
      #expect(try other.exchange("GET / \(head)Authorization: x\r\n\r\n").status == 200)
    }
    #expect(asked.withLockedValue { $0 } == 1)
  }

  @Test func `bodies of all clients share one budget`() async throws {
    var limits = quick
    limits.bodies = 50
    try await withDaemon(limits: limits) { socket in
      let holder = try TestClient(socket)
      try holder.send("PUT / \(head)Content-Length: 45\r\n\r\n" + String(repeating: "x", count: 40))
      let client = try TestClient(socket)
      let request = "PUT / \(head)Content-Length: 20\r\n\r\n" + String(repeating: "y", count: 20)
      var statuses: [Int?] = []
      repeat {
        statuses.append(try client.exchange(request).status)
      } while statuses.last == 200 && statuses.count < 100
      #expect(statuses.last == 503)
      #expect(try holder.exchange("xxxxx").hasSuffix("PUT [] false 45"))
      #expect(try client.exchange(request).status == 200)
    }
  }

  @Test func `a handler that answers late holds up no one else`() async throws {
    let gate = AsyncStream<Void>.makeStream()
    try await withDaemon(handler: { request in
      if request.segments == ["late"] { for await _ in gate.stream { break } }
      return await echo(request)
    }) { socket in
      let late = try TestClient(socket)
      try late.send("GET /late \(head)\r\n")
      #expect(try TestClient(socket).exchange("GET /now \(head)\r\n").status == 200)
      gate.continuation.yield()
      #expect(try late.exchange("").contains("GET [\"late\"]"))
    }
  }

  @Test func `a stream delivers what comes, and ends`() async throws {
    let feed = Feed()
    try await withDaemon(handler: { _ in
      AdminResponse(
        status: 200,
        headers: ["Content-Type": ServerSentEvent.mediaType],
        body: .stream(feed)
      )
    }) { socket in
      let client = try TestClient(socket)
      try client.send("GET / \(head)\r\n")
      _ = try client.read { $0.contains("text/event-stream") }
      for number in 1...50 {
        feed.say("event \(number);")
        _ = try client.read { $0.contains("event \(number);") }
      }
      feed.say(String(repeating: "z", count: 200_000), end: true)
      let rest = try client.read { $0.hasSuffix("0\r\n\r\n") }
      #expect(rest.filter { $0 == "z" }.count == 200_000)
      #expect(feed.waits { $0.cancels == 1 })
    }
    #expect(feed.state.withLockedValue { $0.cancels } == 1)
  }

  @Test func `many streams wake at once and none is lost`() async throws {
    let feeds = (0..<20).map { _ in Feed() }
    try await withDaemon(handler: { request in
      AdminResponse(status: 200, body: .stream(feeds[Int(request.segments[0]) ?? 0]))
    }) { socket in
      let clients = try feeds.indices.map { index in
        let client = try TestClient(socket)
        try client.send("GET /\(index) \(head)\r\n")
        return (client, try client.read { $0.contains("\r\n\r\n") })
      }
      DispatchQueue.concurrentPerform(iterations: feeds.count) { index in
        for _ in 0..<500 { feeds[index].say("#") }
        feeds[index].say("", end: true)
      }
      for (client, start) in clients {
        let text = try start + client.read { $0.hasSuffix("0\r\n\r\n") }
        #expect(text.filter { $0 == "#" }.count == 500)
      }
    }
    #expect(feeds.allSatisfy { $0.state.withLockedValue { $0.waiting.isEmpty && $0.cancels == 1 } })
  }

  @Test func `a stream whose client left is cancelled`() async throws {
    let feed = Feed()
    try await withDaemon(handler: { _ in AdminResponse(status: 200, body: .stream(feed)) }) { socket in
      do {
        let client = try TestClient(socket)
        try client.send("GET / \(head)\r\n")
        _ = try client.read { $0.contains(":\n\n") }
      }
      #expect(feed.waits { $0.cancels == 1 })
    }
    #expect(feed.state.withLockedValue { $0.heartbeats } >= 1)
  }

  @Test func `a stream whose client does not read is cut off`() async throws {
    let feed = Feed()
    var limits = quick
    limits.response = .milliseconds(200)
    try await withDaemon(
      limits: limits,
      handler: { _ in AdminResponse(status: 200, body: .stream(feed)) }
    ) { socket in
      let client = try TestClient(socket)
      try client.send("GET / \(head)\r\n")
      feed.say(String(repeating: "z", count: 20_000_000))
      #expect(feed.waits { $0.cancels == 1 })
      withExtendedLifetime(client) {}
    }
  }

  @Test(arguments: ["", "GET / HTTP/1.1\r\nX: ", "PUT / \(head)Content-Length: 50\r\n\r\n"])
  func `a request that trickles is cut off`(start: String) async throws {
    var limits = quick
    limits.request = .milliseconds(200)
    try await withDaemon(limits: limits) { socket in
      let client = try TestClient(socket)
      try client.send(start)
      let began = ContinuousClock.now
      #expect(throws: TestClient.Failure.self) {
        while ContinuousClock.now - began < .seconds(60) {
          try client.send("a")
          usleep(20_000)
        }
      }
    }
  }

  @Test func `a response that no one takes is cut off`() async throws {
    var limits = quick
    limits.response = .milliseconds(200)
    let large = AdminResponse(contentType: "text/plain", body: [UInt8](repeating: 0x61, count: 20_000_000))
    try await withDaemon(limits: limits, handler: { _ in large }) { socket in
      let client = try TestClient(socket)
      try client.send("GET / \(head)\r\n")
      // What is sent to a connection that was cut off comes back as an error.
      #expect(throws: TestClient.Failure.self) {
        for _ in 0..<3000 {
          try client.send("a")
          usleep(20_000)
        }
      }
      #expect(try client.readToEnd().utf8.count < 20_000_000)
    }
  }

  @Test func `at the limit the next connection waits for a place`() async throws {
    var limits = quick
    limits.connections = 2
    limits.request = .milliseconds(300)
    try await withDaemon(limits: limits) { socket in
      let holders = [try TestClient(socket), try TestClient(socket)]
      #expect(try TestClient(socket).exchange("GET / \(head)\r\n").status == 200)
      withExtendedLifetime(holders) {}
    }
  }

  @Test func `a Unix socket serves and is gone after the stop`() async throws {
    try await withDirectory { directory in
      let path = directory + "/admin.sock"
      let sockets = try AdminSocket.bind("unix:" + path)
      let daemon = try HTTPDaemon(
        sockets: sockets,
        limits: quick,
        logger: Logger(label: "test"),
        handler: echo
      )
      let answer = try await blocking { try TestClient(sockets[0]).exchange("GET / \(head)\r\n") }
      #expect(answer.hasSuffix("GET [] true 0"))
      await daemon.stop()
      await daemon.stop()
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func `a stop lets a request finish that is being answered`() async throws {
    let asked = AsyncStream<Void>.makeStream()
    let gate = AsyncStream<Void>.makeStream()
    let socket = try #require(try AdminSocket.bind("127.0.0.1:0").first)
    let daemon = try HTTPDaemon(
      sockets: [socket],
      limits: quick,
      logger: Logger(label: "test"),
      handler: { request in
        asked.continuation.yield()
        for await _ in gate.stream { break }
        return await echo(request)
      }
    )
    async let answer = blocking { try TestClient(socket).exchange("GET / \(head)\r\n") }
    for await _ in asked.stream { break }
    async let stopped: Void = daemon.stop()
    gate.continuation.yield()
    await stopped
    #expect(try await answer.status == 200)
  }

  @Test func `a stop in the middle of everything ends it all`() async throws {
    var limits = quick
    limits.grace = .milliseconds(10)
    for _ in 0..<50 {
      let feed = Feed()
      let socket = try #require(try AdminSocket.bind("127.0.0.1:0").first)
      let daemon = try HTTPDaemon(
        sockets: [socket],
        limits: limits,
        logger: Logger(label: "test"),
        handler: { request in
          if request.segments == ["stream"] { return AdminResponse(status: 200, body: .stream(feed)) }
          if request.segments == ["late"] { try? await Task.sleep(for: .milliseconds(15)) }
          return await echo(request)
        }
      )
      let clients = try await blocking {
        try ["stream", "late", "late", "now"].map { name in
          let client = try TestClient(socket)
          try client.send("GET /\(name) \(head)\r\n")
          return Unchecked(client)
        }
      }
      async let stopped: Void = daemon.stop()
      feed.say("x")
      await stopped
      feed.say("y")
      for client in clients { _ = try await blocking { try client.value.readToEnd() } }
      #expect(feed.state.withLockedValue { $0.cancels } <= 1)
    }
  }

  @Test func `a daemon that no one holds stops by itself`() async throws {
    let socket = try #require(try AdminSocket.bind("127.0.0.1:0").first)
    var daemon: HTTPDaemon? = try HTTPDaemon(
      sockets: [socket],
      limits: quick,
      logger: Logger(label: "test"),
      handler: echo
    )
    let client = Unchecked(try await blocking { Unchecked(try TestClient(socket)) }.value)
    #expect(daemon != nil)
    daemon = nil
    #expect(try await blocking { try client.value.readToEnd() } == "")
  }
}

/// Carries a client from one thread to the next; only one uses it at a time.
private struct Unchecked<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
