import NIOCore
import Testing

@testable import MagicalaneTransports

@Suite struct QUICGapLimitTests {
  /// Sends packets of 1200 bytes, of which 1150 are a stream's; so many in a hundred carry old ones.
  private func limit(packets: Int, percentAgain: Int) -> QUICGapLimit {
    var limit = QUICGapLimit(packetSize: 1200)
    for number in 0..<packets {
      if number % 100 >= percentAgain { limit.carried(1150) }
      limit.sent(1200)
    }
    return limit
  }

  @Test func `the more is sent again, the less may be on its way`() {
    let sizes = [0, 10, 20, 40].map { limit(packets: 10_000, percentAgain: $0).most }
    #expect(sizes == sizes.sorted(by: >))
  }

  @Test(arguments: [0, 1, 5, 10, 20, 30, 50, 80])
  func `whatever part is lost, there are fewer gaps than ngtcp2 bears`(percent: Int) {
    let packets = Double(limit(packets: 10_000, percentAgain: percent).most) / 1200
    let loss = Double(percent) / 100
    #expect(packets * loss * (1 - loss) < 900)
  }

  @Test func `on a clean path 1 Gbit per second and 100 ms are filled`() {
    #expect(limit(packets: 10_000, percentAgain: 0).most > 12_500_000)
  }

  @Test func `a stream begins as if half of its packets were lost`() {
    #expect(QUICGapLimit(packetSize: 1200).most < 4_000_000)
  }

  @Test func `a connection keeps to it, and goes on as bytes are acknowledged`() throws {
    var settings = QUICTestLink.defaultServer
    settings.windows = QUICWindows(buffer: 64 << 20)
    let link = try QUICTestLink(client: settings, server: settings)
    link.latency = 100_000_000
    link.handshake()
    let server = try #require(link.server)
    server.onChange = { _ = server.connection.takeAll(from: $0) }
    let stream = try #require(link.client.connection.openStream())
    link.client.connection.write(ByteBuffer(repeating: 1, count: 40_000_000), on: stream)
    var most = 0
    let isDone = link.run {
      most = max(most, stream.output.inFlight)
      return stream.output.held == 0
    }
    #expect(isDone)
    #expect(most > 12_500_000)
    #expect(most < 13_200_000)
  }
}
