import NIOCore
import Testing

@testable import MagicalaneAdaptive

@Suite struct ProbeBudgetTests {
  @Test(arguments: [(false, 6000), (true, 60_000)])
  func `no minute costs more than its budget and what was saved up`(isBusy: Bool, perMinute: Int) {
    var budget = ProbeBudget(idle: 6000, busy: 60_000)
    var spent = 0
    for step in 0..<600 where budget.pay(100, isBusy: isBusy, now: Double(step) / 10) { spent += 100 }
    #expect(spent <= perMinute + perMinute / 4)
    #expect(spent >= perMinute - 100)
  }

  @Test func `a budget of nothing pays for nothing`() {
    var budget = ProbeBudget(idle: 0, busy: 0)
    let isPaid1 = budget.pay(1, isBusy: true, now: 0)
    #expect(!isPaid1)
    let isPaid2 = budget.pay(1, isBusy: true, now: 1000)
    #expect(!isPaid2)
  }

  @Test func `an idle leg is asked as often as the budget allows`() {
    let pace = QueryPace(idleBudget: 6000, members: 2, cost: 300)
    #expect(pace.interval(isBusy: false, isCalm: false, packetsPerSecond: 0) == .seconds(6))
  }

  @Test func `a leg that shows its losses by its traffic is asked less`() {
    let pace = QueryPace(idleBudget: 6000, members: 2, cost: 300)
    let quiet = pace.interval(isBusy: true, isCalm: false, packetsPerSecond: 0)
    #expect(quiet < pace.interval(isBusy: true, isCalm: false, packetsPerSecond: 1000))
    #expect(quiet < pace.interval(isBusy: true, isCalm: true, packetsPerSecond: 0))
  }
}
