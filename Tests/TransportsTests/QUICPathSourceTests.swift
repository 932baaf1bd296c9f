import MagicalaneCore
import NIOCore
import Testing

@testable import MagicalaneTransports

/// What both ends of a connection count of the path between them.
@Suite struct QUICPathSourceTests {
  /// Sent by one end less received by the other, upwards and downwards, once nothing is on its way.
  private func losses(_ link: QUICTestLink) throws -> (up: Int, down: Int) {
    let client = link.client.connection
    let server = try #require(link.server).connection
    return (
      Int(client.datagramsSent) - Int(server.datagramsReceived),
      Int(server.datagramsSent) - Int(client.datagramsReceived)
    )
  }

  @Test("on a link that loses nothing both ends count the same, but for probes of larger sizes")
  func clean() throws {
    let link = try QUICTestLink()
    link.handshake()
    _ = try exchange(500_000, on: link)
    link.run(for: 1_000_000_000)
    let (up, down) = try losses(link)
    #expect((-6...0).contains(up), "\(up)")
    #expect((-6...0).contains(down), "\(down)")
    #expect(link.client.connection.datagramsSent > 300)
  }

  @Test("what is lost is the difference, in each direction", arguments: [1, 2, 3])
  func lossy(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    var dropped = (up: 0, down: 0)
    let link = try QUICTestLink()
    link.handshake()
    link.fate = { toServer, _, _ in
      guard Int.random(in: 0..<(toServer ? 10 : 30), using: &random) == 0 else { return .deliver }
      if toServer { dropped.up += 1 } else { dropped.down += 1 }
      return .drop
    }
    for _ in 0..<2 { _ = try exchange(500_000, on: link) }
    link.run(for: 1_000_000_000)
    let (up, down) = try losses(link)
    #expect(dropped.up > 50 && dropped.down > 10)
    #expect(abs(up - dropped.up) <= 8, "\(up) of \(dropped.up)")
    #expect(abs(down - dropped.down) <= 8, "\(down) of \(dropped.down)")
  }
}
