import MagicalaneCore
import Testing

@testable import MagicalaneAdaptive

@Suite struct ReportLedgerTests {
  private var ledger = ReportLedger()

  @Test mutating func `the first report is where counting begins`() {
    let packets = take(datagrams: 100, arrived: 90, back: 50, seen: 50)
    #expect(packets.up == nil && packets.down == nil)
  }

  @Test mutating func `datagrams that did not arrive are lost, each way`() {
    _ = take(datagrams: 100, arrived: 100, back: 50, seen: 50)
    let packets = take(datagrams: 200, arrived: 190, back: 150, seen: 130)
    #expect(packets.up == LegSample.Packets(sent: 100, lost: 10))
    #expect(packets.down == LegSample.Packets(sent: 100, lost: 20))
  }

  @Test mutating func `what was under way and arrived is not counted as lost twice`() {
    _ = take(datagrams: 100, arrived: 100, back: 0, seen: 0)
    let seen1 = take(datagrams: 200, arrived: 180, back: 0, seen: 0)
    #expect(seen1.up?.lost == 20)
    let seen2 = take(datagrams: 300, arrived: 300, back: 0, seen: 0)
    #expect(seen2.up?.lost == 0)
    let seen3 = take(datagrams: 400, arrived: 375, back: 0, seen: 0)
    #expect(seen3.up?.lost == 5)
  }

  @Test mutating func `ends that began to count at different packets agree all the same`() {
    _ = take(datagrams: 100, arrived: 140, back: 0, seen: 0)
    let seen4 = take(datagrams: 200, arrived: 230, back: 0, seen: 0)
    #expect(seen4.up == LegSample.Packets(sent: 100, lost: 10))
  }

  @Test mutating func `a sender that knows its losses is believed`() {
    _ = ledger.take(
      asked: PathCounts(sent: 10, lost: 0),
      far: PathCounts(sent: 20, lost: 1),
      answered: PathCounts(sent: 10, lost: 0)
    )
    let packets = ledger.take(
      asked: PathCounts(sent: 110, lost: 4),
      far: PathCounts(sent: 70, lost: 6),
      answered: PathCounts(sent: 110, lost: 4)
    )
    #expect(packets.up == LegSample.Packets(sent: 100, lost: 4))
    #expect(packets.down == LegSample.Packets(sent: 50, lost: 5))
  }

  @Test mutating func `a far end that forgot begins anew`() {
    _ = take(datagrams: 100, arrived: 100, back: 500, seen: 500)
    let seen5 = take(datagrams: 200, arrived: 200, back: 3, seen: 510)
    #expect(seen5.down == nil)
    let seen6 = take(datagrams: 300, arrived: 300, back: 103, seen: 610)
    #expect(seen6.down == LegSample.Packets(sent: 100, lost: 0))
  }

  @Test mutating func `where nothing was sent nothing is learned`() {
    _ = take(datagrams: 100, arrived: 100, back: 50, seen: 50)
    let seen7 = take(datagrams: 100, arrived: 100, back: 50, seen: 50)
    #expect(seen7.up == nil)
  }

  @Test mutating func `an end that cannot tell teaches nothing`() {
    _ = ledger.take(asked: PathCounts(sent: 1), far: PathCounts(sent: 1), answered: PathCounts(sent: 1))
    let packets = ledger.take(
      asked: PathCounts(sent: 9),
      far: PathCounts(sent: 9),
      answered: PathCounts(sent: 9)
    )
    #expect(packets.up == nil && packets.down == nil)
  }

  private mutating func take(
    datagrams: UInt64,
    arrived: UInt64,
    back: UInt64,
    seen: UInt64
  ) -> (up: LegSample.Packets?, down: LegSample.Packets?) {
    ledger.take(
      asked: PathCounts(sent: datagrams, received: 0),
      far: PathCounts(sent: back, received: arrived),
      answered: PathCounts(sent: datagrams, received: seen)
    )
  }
}
