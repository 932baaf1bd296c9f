import MagicalaneCore
import NIOCore
import Testing

@testable import MagicalaneTransports

/// What QUIC streams take of a memory budget.
@Suite struct QUICMemoryTests {
  private let budget = MemoryBudget(limit: 16 << 20)

  private func settings(isFixed: Bool = false) -> QUICSettings {
    var settings = QUICTestLink.defaultServer
    settings.windows = QUICWindows(
      buffer: 5 << 20,
      memory: StreamMemory(budget: budget, isFixed: isFixed)
    )
    return settings
  }

  private func connected(client: QUICSettings = QUICSettings(), server: QUICSettings) throws -> QUICTestLink {
    let link = try QUICTestLink(client: client, server: server)
    link.handshake()
    return link
  }

  @Test("what 100 streams hold that nobody reads is counted, and stays below the budget")
  func stopped() throws {
    let link = try connected(server: settings())
    let server = try #require(link.server)
    let client = link.client.connection
    let streams = try (0..<100).map { _ in try #require(client.openStream()) }
    let bytes = ByteBuffer(repeating: 1, count: 2 * budget.least)
    for stream in streams { client.write(bytes, on: stream) }
    link.run(for: 1_000_000_000)
    #expect(server.opened.count == 100)
    let held = server.opened.reduce(0) { $0 + $1.received.readableBytes }
    #expect(held == 100 * budget.least)
    #expect(budget.used == held)
    for stream in server.opened { _ = server.connection.takeAll(from: stream) }
    #expect(budget.used < held)
  }

  /// Bytes on the way of a fast stream whose reader keeps up.
  private func growth(_ settings: QUICSettings) throws -> (most: Int, window: UInt64, atEnd: Int) {
    let link = try connected(server: settings)
    let server = try #require(link.server)
    let client = link.client.connection
    let stream = try #require(client.openStream())
    let size = 10 << 20
    client.write(ByteBuffer(repeating: 1, count: size), on: stream)
    client.finish(stream)
    var most = 0
    var received = 0
    server.onChange = { stream in
      received += server.connection.takeAll(from: stream).readableBytes
      most = max(most, budget.used)
    }
    #expect(link.run { server.opened.first?.isInputFinished == true })
    #expect(received == size)
    return (most, try #require(server.opened.first).window.size, budget.used)
  }

  @Test("a fast stream's window takes its share of the budget, and gives it back with the end of its input")
  func share() throws {
    let result = try growth(settings())
    #expect(result.most >= 1 << 20)
    #expect(result.most <= budget.limit / 5)
    #expect(result.window <= UInt64(budget.limit / 5))
    #expect(result.atEnd == 0)
  }

  @Test("a given buffer is not bound by the budget, but counted")
  func given() throws {
    let result = try growth(settings(isFixed: true))
    #expect(result.window > UInt64(budget.limit / 5))
    #expect(result.most > budget.limit / 5)
    #expect(result.atEnd == 0)
  }

  @Test("what waits to be acknowledged is counted until it is")
  func output() throws {
    let link = try connected(client: settings(), server: QUICTestLink.defaultServer)
    let client = link.client.connection
    let stream = try #require(client.openStream())
    client.write(pattern(300 << 10), on: stream)
    #expect(budget.used == 256 << 10)
    link.run(for: 1_000_000_000)
    #expect(stream.output.held == 0)
    #expect(budget.used == 0)
  }

  @Test("a connection keeps the windows that it told its peer, and the next one goes by the new limit")
  func reload() throws {
    let settings = settings()
    let first = try connected(server: settings)
    budget.limit = 1 << 30
    let second = try connected(server: settings)
    let sizes = [first, second].map { $0.server?.connection.settings.windows.initialStream }
    #expect(sizes == [64 << 10, 512 << 10])
  }
}
