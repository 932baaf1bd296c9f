import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// A path whose counts a test sets.
final class FakePath: PathSource {
  var counts: PathCounts?
  var isOver = false
  private(set) var asked = 0

  init(_ counts: PathCounts?) {
    self.counts = counts
  }

  convenience init(sent: UInt64, received: UInt64? = 0, lost: UInt64? = nil, roundTrip: UInt64? = nil) {
    self.init(
      PathCounts(
        sent: sent,
        received: received,
        lost: lost,
        roundTrip: roundTrip.map { PathCounts.RoundTrip(smoothed: $0, variation: $0 / 2) }
      )
    )
  }
}

@Suite struct PathPageTests {
  let page = PathPage()

  @Test func `no path is nothing sent, and nothing known`() {
    #expect(page.read().counts == .zero)
  }

  @Test func `live and ended paths are summed, and what came last of an ended one is kept`() {
    let (one, other) = (FakePath(sent: 10, received: 9), FakePath(sent: 1, received: 1))
    page.add(one)
    page.add(other)
    #expect(page.read().counts == PathCounts(sent: 11, received: 10))
    one.counts = PathCounts(sent: 30, received: 20)
    one.isOver = true
    #expect(page.read().counts == PathCounts(sent: 31, received: 21))
    #expect(page.count == 1)
    one.counts = PathCounts(sent: 99, received: 99)
    other.counts = nil
    #expect(page.read().counts == PathCounts(sent: 31, received: 21))
  }

  @Test func `a path that many streams share is counted once`() {
    let path = FakePath(sent: 10)
    for _ in 0..<3 { page.add(path) }
    #expect(page.count == 1)
    #expect(page.read().counts.sent == 10)
  }

  @Test func `a path that ends is asked for the last time`() {
    let path = FakePath(sent: 10)
    page.add(path)
    path.counts?.sent = 25
    page.remove(path)
    page.remove(path)
    #expect(page.count == 0)
    #expect(page.read().counts.sent == 25)
  }

  @Test func `a path that was used much before is counted from now on`() {
    let path = FakePath(sent: PathPage.young + 1, received: 1000)
    page.add(path)
    #expect(page.read().counts == PathCounts(sent: 0, received: 0))
    path.counts = PathCounts(sent: PathPage.young + 8, received: 1005)
    #expect(page.read().counts == PathCounts(sent: 7, received: 5))
  }

  @Test func `what one path cannot tell, the sum cannot`() {
    page.add(FakePath(sent: 1, received: 1, lost: 1))
    #expect(page.read().counts == PathCounts(sent: 1, received: 1, lost: 1))
    page.add(FakePath(sent: 1, received: nil, lost: nil))
    #expect(page.read().counts == PathCounts(sent: 2))
  }

  @Test func `losses that turn out to be none are taken back`() {
    let path = FakePath(sent: 10, received: nil, lost: 3)
    page.add(path)
    #expect(page.read().counts.lost == 3)
    path.counts?.lost = 1
    #expect(page.read().counts.lost == 1)
  }

  @Test func `the round trip is weighted by what was sent since the last look`() {
    let (busy, quiet) = (FakePath(sent: 3, roundTrip: 100), FakePath(sent: 1, roundTrip: 500))
    page.add(busy)
    page.add(quiet)
    busy.counts?.sent += 30
    quiet.counts?.sent += 10
    #expect(page.read().counts.roundTrip == PathCounts.RoundTrip(smoothed: 200, variation: 100))
    quiet.counts?.sent += 1
    #expect(page.read().counts.roundTrip?.smoothed == 500)
    #expect(page.read().counts.roundTrip?.smoothed == 500)
  }

  @Test func `with thousands of paths a call asks a few, and all have their turn`() {
    let paths = (0..<1000).map { _ in FakePath(sent: 1) }
    for path in paths { page.add(path) }
    for path in paths { path.counts?.sent = 2 }
    let first = page.read().counts.sent
    #expect(first == 1000 + UInt64(PathPage.askedAtOnce))
    for _ in 0..<3 { _ = page.read() }
    #expect(page.read().counts.sent == 2000)
  }

  @Test func `paths that ended unseen do not pile up`() {
    for _ in 0..<1000 {
      let path = FakePath(sent: 1)
      page.add(path)
      path.isOver = true
    }
    #expect(page.count < 5)
    #expect(page.read().counts.sent == 1000)
  }

  @Test func `a path that can tell nothing is left out`() {
    page.add(FakePath(nil))
    #expect(page.count == 0)
  }

  @Test func `sums of loops add up`() {
    let other = PathPage()
    page.add(FakePath(sent: 1, received: 5, roundTrip: 100))
    other.add(FakePath(sent: 3, received: 7, roundTrip: 300))
    // Sent since the last look, which was when they came.
    let sum = PathSum(adding: [page.read(), other.read()]).counts
    #expect(sum.sent == 4)
    #expect(sum.received == 12)
    #expect(sum.roundTrip != nil)
  }
}

@Suite struct PathLedgerTests {
  @Test func `a stream without a path below it changes nothing`() throws {
    let ledger = PathLedger()
    let recorded = try RecordedChannel()
    ledger.attach(recorded.channel)
    let counts = ledger.counts(on: recorded.channel.eventLoop)
    #expect(try counts.wait() == .zero)
  }

  @Test func `a kernel's count goes on behind its largest value`() {
    var counters = TCPCounters()
    counters.take(.init(sent: .max, repeated: 5, doubled: 1, round_trip: 0, variation: 0, tells_doubled: 1))
    counters.take(.init(sent: 9, repeated: 7, doubled: 1, round_trip: 40, variation: 20, tells_doubled: 1))
    #expect(
      counters.counts
        == PathCounts(
          sent: UInt64(UInt32.max) + 10,
          lost: 6,
          roundTrip: PathCounts.RoundTrip(smoothed: 40_000, variation: 20_000)
        )
    )
  }

  @Test func `more doubles than repeats are no loss, and an old kernel tells none`() {
    var counters = TCPCounters()
    counters.take(.init(sent: 9, repeated: 1, doubled: 4, round_trip: 0, variation: 0, tells_doubled: 1))
    #expect(counters.counts == PathCounts(sent: 9, lost: 0))
    counters.take(.init(sent: 9, repeated: 1, doubled: 0, round_trip: 0, variation: 0, tells_doubled: 0))
    #expect(counters.counts.lost == nil)
  }
}

@Suite struct PathLedgersTests {
  let loop = EmbeddedEventLoop()
  let leg = LegID()

  private func stream() throws -> EmbeddedChannel {
    let channel = EmbeddedChannel(loop: loop)
    try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
    return channel
  }

  @Test func `streams of one leg share its ledger, another user's do not`() throws {
    let ledgers = PathLedgers()
    let first = try #require(ledgers.attach(try stream(), to: leg, of: "alice"))
    #expect(ledgers.attach(try stream(), to: leg, of: "alice") === first)
    #expect(ledgers.attach(try stream(), to: leg, of: "bob") !== first)
    #expect(ledgers.attach(try stream(), to: leg, of: nil) !== first)
    #expect(ledgers.attach(try stream(), to: LegID(), of: "alice") !== first)
  }

  @Test func `a ledger outlives its streams, until room is wanted: the longest unused goes first`() throws {
    let ledgers = PathLedgers(limit: 2)
    let other = LegID()
    let streams = [try stream(), try stream()]
    let first = ledgers.attach(streams[0], to: leg, of: nil)
    let second = ledgers.attach(streams[1], to: other, of: nil)
    for stream in streams {
      stream.close(promise: nil)
      loop.run()
    }
    // Used once more and left again, so that the other is the longest unused.
    let again = try stream()
    #expect(ledgers.attach(again, to: leg, of: nil) === first)
    again.close(promise: nil)
    loop.run()
    #expect(ledgers.attach(try stream(), to: LegID(), of: nil) != nil)
    #expect(ledgers.count == 2)
    #expect(ledgers.attach(try stream(), to: leg, of: nil) === first)
    #expect(ledgers.attach(try stream(), to: other, of: nil) == nil)
    #expect(second != nil)
  }

  @Test func `when all are in use a new leg is not counted`() throws {
    let ledgers = PathLedgers(limit: 1)
    let stream = try stream()
    #expect(ledgers.attach(stream, to: leg, of: nil) != nil)
    #expect(ledgers.attach(try self.stream(), to: LegID(), of: nil) == nil)
    #expect(ledgers.count == 1)
    stream.close(promise: nil)
    loop.run()
    #expect(ledgers.attach(try self.stream(), to: LegID(), of: nil) != nil)
    #expect(ledgers.count == 1)
  }

  @Test func `a leg that comes and goes for ever keeps its place and takes no more`() throws {
    let ledgers = PathLedgers(limit: 2)
    let first = try #require(ledgers.attach(try stream(), to: leg, of: nil))
    for _ in 0..<20 {
      let stream = try stream()
      #expect(ledgers.attach(stream, to: leg, of: nil) === first)
      stream.close(promise: nil)
      loop.run()
    }
    #expect(ledgers.count == 1)
  }
}
