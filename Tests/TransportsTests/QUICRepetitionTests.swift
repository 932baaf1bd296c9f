import NIOCore
import Testing

@testable import MagicalaneTransports

@Suite struct QUICRepetitionTests {
  private let remote = QUICTestLink.serverAddress
  private let packet = ByteBuffer(repeating: 1, count: 100)

  private func batch(to remote: SocketAddress? = nil) -> DatagramBatch {
    DatagramBatch(segmentSize: 100, remote: remote ?? self.remote, ecn: 2)
  }

  @Test func `a path without a loss repeats nothing`() {
    #expect(!QUICRepetition().wants(batch(), bytes: 100, now: 0))
  }

  @Test func `after a loss few packets are repeated, and many are not`() {
    var repetition = QUICRepetition()
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 0)
    #expect(repetition.wants(batch(), bytes: 150, now: 1))
    #expect(!repetition.wants(batch(), bytes: 300, now: 1))
  }

  @Test func `a path without losses for a while is calm again`() {
    var repetition = QUICRepetition()
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 0)
    #expect(repetition.wants(batch(), bytes: 100, now: QUICRepetition.hold - 1))
    #expect(!repetition.wants(batch(), bytes: 100, now: QUICRepetition.hold))
  }

  @Test func `on a short path nothing is repeated`() {
    var repetition = QUICRepetition()
    repetition.noteLoss(to: remote, roundTrip: 1_000_000, now: 0)
    #expect(!repetition.wants(batch(), bytes: 100, now: 1))
  }

  @Test func `a packet that tried the size of the path is no loss`() {
    var repetition = QUICRepetition()
    repetition.noteSizeProbe(now: 0)
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 90_000_000)
    #expect(!repetition.wants(batch(), bytes: 100, now: 90_000_001))
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 120_000_000)
    #expect(repetition.wants(batch(), bytes: 100, now: 120_000_001))
  }

  @Test func `the losses of one path say nothing of another`() {
    var repetition = QUICRepetition()
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 0)
    #expect(!repetition.wants(batch(to: QUICTestLink.clientAddress), bytes: 100, now: 1))
  }

  @Test func `a copy is due an eighth of a round trip later, once`() {
    var repetition = QUICRepetition()
    repetition.keep(packet, batch(), now: 1000, roundTrip: 800)
    #expect(repetition.due == 1100)
    #expect(repetition.next(now: 1099) == nil)
    #expect(repetition.next(now: 1100)?.bytes == packet)
    #expect(repetition.next(now: 1100) == nil)
    #expect(repetition.due == nil)
  }

  @Test func `copies that nobody sends do not pile up`() {
    var repetition = QUICRepetition()
    repetition.noteLoss(to: remote, roundTrip: 40_000_000, now: 0)
    for _ in 0..<100 where repetition.wants(batch(), bytes: 100, now: 1) {
      repetition.keep(packet, batch(), now: 1, roundTrip: 800)
    }
    var copies = 0
    while repetition.next(now: 1000) != nil { copies += 1 }
    #expect(copies == 16)
  }

  @Test func `a connection on a clean path sends no datagram twice`() throws {
    let link = try QUICTestLink()
    #expect(try echoes(200, on: link).allSatisfy { $0 < 50_000_000 })
    #expect(link.repeated == 0)
  }

  @Test func `a path that carries no large packets loses none of the others`() throws {
    let link = try QUICTestLink()
    link.fate = { _, _, bytes in bytes.count > 1250 ? .drop : .deliver }
    #expect(try echoes(200, on: link).allSatisfy { $0 < 50_000_000 })
    #expect(link.repeated == 0)
  }

  @Test(arguments: [1, 2, 3]) func `of small messages over a lossy path hardly one waits for a time-out`(
    seed: Int
  ) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.handshake()
    link.fate = { _, _, _ in .random(in: 0..<10, using: &random) == 0 ? .drop : .deliver }
    let times = try echoes(500, on: link)
    // One in five would, if nothing were sent twice.
    #expect(times.filter { $0 > 60_000_000 }.count < 40)
    #expect(link.repeated > 800)
  }

  @Test(arguments: [1, 2]) func `who sends much over a lossy path sends hardly anything twice`(seed: Int)
    throws
  {
    var random = SeededGenerator(state: UInt64(seed))
    let link = try QUICTestLink()
    link.latency = 20_000_000
    link.handshake()
    link.fate = { _, _, _ in .random(in: 0..<50, using: &random) == 0 ? .drop : .deliver }
    _ = try exchange(2_000_000, on: link)
    #expect(link.repeated < Int(link.client.connection.datagramsSent) / 20)
  }

  /// How long each of so many small messages and their answers take, one after the other, in nanoseconds.
  private func echoes(_ count: Int, on link: QUICTestLink) throws -> [UInt64] {
    link.latency = 20_000_000
    link.handshake()
    let stream = try #require(link.client.connection.openStream())
    return try (0..<count).map { _ in
      let start = link.now
      link.client.connection.write(pattern(64), on: stream)
      #expect(link.run { (link.server?.opened.first?.received.readableBytes ?? 0) >= 64 })
      let server = try #require(link.server)
      let accepted = try #require(server.opened.first)
      server.connection.write(server.connection.takeAll(from: accepted), on: accepted)
      #expect(link.run { stream.received.readableBytes >= 64 })
      _ = link.client.connection.takeAll(from: stream)
      return link.now - start
    }
  }
}
