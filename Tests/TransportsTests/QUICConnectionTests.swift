import NIOCore
import Testing

@testable import MagicalaneTransports

@Suite struct QUICConnectionTests {
  @Test("both ends complete the handshake and agree on the application protocol")
  func handshake() throws {
    let link = try QUICTestLink()
    #expect(link.handshake())
    #expect(link.client.closed == nil)
  }

  @Test("bytes and the end of a stream arrive in order, in both directions")
  func echo() throws {
    let link = try QUICTestLink()
    link.handshake()
    let (stream, accepted) = try exchange(300_000, on: link)
    #expect(link.run { stream.isClosed && accepted.isClosed })
    #expect(link.client.connection.streams.isEmpty)
    #expect(stream.output.held == 0)
  }

  @Test("on a short path an acknowledgement waits a millisecond for an answer to go with, no longer")
  func acknowledgementWaits() throws {
    let link = try QUICTestLink()
    link.latency = 50_000
    link.handshake()
    link.run(for: 100_000_000)
    let stream = try #require(link.client.connection.openStream())
    link.client.connection.write(pattern(64), on: stream)
    #expect(link.run { link.server?.opened.first?.received.readableBytes == 64 })
    let server = try #require(link.server).connection
    let due = try #require(server.wakeUp(now: link.now))
    #expect(due == link.now + 1_000_000)
    // To be asked again does not put it off.
    #expect(server.wakeUp(now: link.now + 900_000) == due)
    #expect(!server.isDue(now: due - 1) && server.isDue(now: due))
  }

  @Test("every stream arrives whole over a link that loses packets", arguments: [1, 2, 3, 4])
  func loss(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.fate = { _, _, _ in .random(in: 0..<10, using: &random) == 0 ? .drop : .deliver }
    #expect(link.handshake())
    for _ in 0..<3 { _ = try exchange(200_000, on: link) }
  }

  @Test("every stream arrives whole over a link that reorders packets", arguments: [5, 6])
  func reordering(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.fate = { _, _, _ in .delay(.random(in: 0..<20_000_000, using: &random)) }
    #expect(link.handshake())
    for _ in 0..<3 { _ = try exchange(200_000, on: link) }
  }

  @Test("packets that are cut or changed on the way cost no more than lost ones", arguments: [7, 8, 9, 10])
  func corruption(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.fate = { _, number, bytes in
      guard number > 8, .random(in: 0..<12, using: &random) == 0 else { return .deliver }
      var changed = bytes
      if Bool.random(using: &random) {
        changed.removeLast(.random(in: 0..<changed.count, using: &random))
      } else {
        changed[.random(in: 0..<changed.count, using: &random)] ^=
          1 << UInt8.random(in: 0..<8, using: &random)
      }
      return .change(changed)
    }
    #expect(link.handshake())
    for _ in 0..<3 { _ = try exchange(100_000, on: link) }
  }

  @Test("a handshake whose packets are all changed somewhere ends without a crash", arguments: 20..<60)
  func corruptHandshake(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.fate = { _, _, bytes in
      var changed = bytes
      for _ in 0..<Int.random(in: 0..<3, using: &random) {
        changed[.random(in: 0..<changed.count, using: &random)] = .random(in: 0...255, using: &random)
      }
      return .change(changed)
    }
    link.run(for: 20_000_000_000) { link.client.isEstablished || link.client.closed != nil }
    #expect(link.client.isEstablished || link.client.closed != nil)
  }

  @Test("a stream that nobody reads stops at its window and holds up no other")
  func slowReader() throws {
    var settings = QUICTestLink.defaultServer
    settings.windows = QUICWindows(buffer: 1 << 20)
    let link = try QUICTestLink(server: settings)
    link.handshake()
    let server = try #require(link.server)
    let client = link.client.connection
    let window = Int(settings.windows.initialStream)
    // More unread streams than would fit the connection's window.
    let stuck = try (0..<8).map { _ in try #require(client.openStream()) }
    for stream in stuck { client.write(pattern(2 << 20), on: stream) }
    link.run(for: 2_000_000_000)
    #expect(server.opened.count == 8)
    #expect(server.opened.allSatisfy { $0.received.readableBytes == window })
    #expect(window * 8 > Int(settings.windows.connection))
    _ = try exchange(500_000, on: link)
    // The window opens as bytes are taken, and only then.
    let first = server.opened[0]
    #expect(server.connection.takeAll(from: first).readableBytes == window)
    link.run(for: 2_000_000_000)
    #expect(first.received.readableBytes >= window)
    #expect(server.opened[1].received.readableBytes == window)
  }

  @Test("streams take turns: a small one is not held up by a large one")
  func fairness() throws {
    let link = try QUICTestLink()
    link.handshake()
    let client = link.client.connection
    let large = try #require(client.openStream())
    let small = try #require(client.openStream())
    client.write(pattern(4 << 20), on: large)
    client.write(pattern(1000), on: small)
    client.finish(small)
    let server = try #require(link.server)
    #expect(link.run { server.opened.contains { $0.id == small.id && $0.isInputFinished } })
    #expect(large.output.unsent > 3 << 20)
  }

  @Test("a reset reaches the peer with its code, and drops what waited")
  func reset() throws {
    let link = try QUICTestLink()
    link.handshake()
    let client = link.client.connection
    let server = try #require(link.server)
    let stream = try #require(client.openStream())
    client.write(pattern(3 << 20), on: stream)
    #expect(link.run { server.opened.first.map { $0.received.readableBytes > 0 } == true })
    client.reset(stream, code: 7)
    client.stop(stream, code: 9)
    let accepted = try #require(server.opened.first)
    #expect(link.run { accepted.resetCode == 7 })
    // That the client reads no more shows when the server writes.
    server.connection.write(pattern(10), on: accepted)
    #expect(link.run { accepted.isStopped && accepted.isOutputDead })
    #expect(link.run { stream.isClosed && accepted.isClosed })
  }

  @Test("a stream that waits for its window learns that the peer wants no more")
  func stopWhileBlocked() throws {
    let link = try QUICTestLink()
    link.handshake()
    let client = link.client.connection
    let server = try #require(link.server)
    let stream = try #require(client.openStream())
    client.write(pattern(3 << 20), on: stream)
    link.run(for: 1_000_000_000)
    let accepted = try #require(server.opened.first)
    #expect(stream.output.unsent > 0 && !stream.isStopped)
    server.connection.stop(accepted, code: 9)
    #expect(link.run { stream.isStopped })
    #expect(stream.output.unsent == 0)
  }

  @Test("a client gets no more streams than the server allows, until one closes")
  func credit() throws {
    var settings = QUICTestLink.defaultServer
    settings.maxStreams = 2
    let link = try QUICTestLink(server: settings)
    link.handshake()
    let client = link.client.connection
    let first = try #require(client.openStream())
    _ = try #require(client.openStream())
    #expect(client.openStream() == nil)
    let server = try #require(link.server)
    client.write(ByteBuffer(string: "x"), on: first)
    client.finish(first)
    #expect(link.run { server.opened.first?.isInputFinished == true })
    server.connection.finish(server.opened[0])
    #expect(link.run { client.openStream() != nil })
    #expect(first.isClosed)
  }

  @Test("either end can change its keys in the middle of a stream")
  func keyUpdate() throws {
    let link = try QUICTestLink()
    link.handshake()
    _ = try exchange(10_000, on: link)
    #expect(link.client.connection.updateKeys(now: link.now))
    _ = try exchange(100_000, on: link)
    let server = try #require(link.server)
    link.run(for: 2_000_000_000)
    #expect(server.connection.updateKeys(now: link.now))
    _ = try exchange(100_000, on: link)
    #expect(link.client.closed == nil && server.closed == nil)
  }

  @Test("a connection without streams ends after its idle time-out, at both ends and without a word")
  func idle() throws {
    var settings = QUICSettings()
    settings.idleTimeout = 3_000_000_000
    let link = try QUICTestLink(client: settings)
    link.handshake()
    link.run(for: 1_000_000_000)
    let before = link.datagramsToServer
    link.run(for: 5_000_000_000) { link.client.closed != nil && link.server?.closed != nil }
    #expect(link.client.closed == .idleTimeout)
    #expect(link.server?.closed == .idleTimeout)
    #expect(link.datagramsToServer == before)
  }

  @Test("a quiet stream keeps its connection")
  func keepAlive() throws {
    var settings = QUICSettings()
    settings.idleTimeout = 3_000_000_000
    let link = try QUICTestLink(client: settings)
    link.handshake()
    let stream = try #require(link.client.connection.openStream())
    link.client.connection.write(pattern(1), on: stream)
    link.run(for: 60_000_000_000)
    #expect(link.client.closed == nil && link.server?.closed == nil)
  }

  @Test("a handshake that nobody answers is given up in time")
  func unanswered() throws {
    let link = try QUICTestLink()
    link.fate = { _, _, _ in .drop }
    let start = link.now
    link.run(for: 60_000_000_000) { link.client.closed != nil }
    #expect(link.client.closed == .handshakeTimeout)
    #expect(link.now - start <= 11_000_000_000)
  }

  @Test("to close tells the peer why, and late packets are answered less and less")
  func close() throws {
    let link = try QUICTestLink()
    link.handshake()
    let server = try #require(link.server)
    server.connection.close(code: 5, now: link.now)
    #expect(link.run { link.client.closed != nil })
    #expect(link.client.closed == .closedByPeer(code: 5, isApplication: true))
    #expect(server.closed == .closedHere)
    var answers = 0
    link.fate = { toServer, _, _ in
      if !toServer { answers += 1 }
      return .drop
    }
    let path = QUICPath(local: QUICTestLink.serverAddress, remote: QUICTestLink.clientAddress)
    for _ in 0..<64 {
      pattern(100).withUnsafeReadableBytes {
        server.connection.receive($0, on: path, ecn: 0, now: link.now)
      }
      link.run(for: 0)
    }
    #expect((1...7).contains(answers))
    #expect(link.run { server.connection.state == .ended && link.client.connection.state == .ended })
  }

  @Test("a client whose address changes stays connected")
  func rebinding() throws {
    let link = try QUICTestLink()
    link.handshake()
    _ = try exchange(10_000, on: link)
    link.run(for: 1_000_000_000)
    link.clientAddress.port = 2222
    _ = try exchange(500_000, on: link)
    #expect(link.server?.connection.remoteAddress?.port == 2222)
  }

  @Test("a client resumes its session with the ticket of the last, and gets a token for its address")
  func resumption() throws {
    let first = try QUICTestLink()
    first.handshake()
    first.run(for: 1_000_000_000)
    let ticket = try #require(first.client.connection.tls?.ticket())
    #expect(!first.client.token.isEmpty)
    #expect(first.client.connection.tls?.isResumed == false)
    let second = try QUICTestLink(token: first.client.token, ticket: ticket)
    #expect(second.handshake())
    #expect(second.client.connection.tls?.isResumed == true)
  }

  @Test("each connection ID that is given out is taken back")
  func connectionIDs() throws {
    let link = try QUICTestLink()
    link.handshake()
    link.run(for: 3_000_000_000)
    let server = try #require(link.server)
    // The client may hold seven of ours; its own first choice is no more.
    #expect((1...8).contains(server.connectionIDs))
  }
}

/// Sends bytes over a new stream, has them sent back, and checks them on the way.
@discardableResult
func exchange(_ count: Int, on link: QUICTestLink) throws -> (QUICStream, QUICStream) {
  let server = try #require(link.server)
  let opened = server.opened.count
  let stream = try #require(link.client.connection.openStream())
  let question = pattern(count, seed: opened)
  var heard = ByteBuffer()
  var answer = ByteBuffer()
  link.client.connection.write(question, on: stream)
  link.client.connection.finish(stream)
  server.onChange = { changed in
    guard changed.id == stream.id else { return }
    var bytes = server.connection.takeAll(from: changed)
    heard.writeImmutableBuffer(bytes)
    server.connection.write(bytes, on: changed)
    bytes.clear()
    if changed.isInputFinished { server.connection.finish(changed) }
  }
  link.client.onChange = { changed in
    guard changed.id == stream.id else { return }
    var bytes = link.client.connection.takeAll(from: changed)
    answer.writeBuffer(&bytes)
  }
  defer {
    server.onChange = { _ in }
    link.client.onChange = { _ in }
  }
  let isDone = link.run { stream.isInputFinished && stream.received.readableBytes == 0 }
  #expect(isDone)
  #expect(heard == question)
  #expect(answer == question)
  let accepted = try #require(server.opened.first { $0.id == stream.id })
  return (stream, accepted)
}
