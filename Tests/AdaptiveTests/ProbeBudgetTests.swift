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
    #expect(interval(isBusy: false) == .seconds(6))
    #expect(interval(isBusy: false, isKnown: false) == .seconds(6))
  }

  @Test func `a leg that shows its losses by its traffic is asked less`() {
    #expect(interval() < interval(packetsPerSecond: 1000))
    #expect(interval() < interval(isCalm: true))
  }

  @Test func `a leg without traffic is known by half a window`() {
    #expect(interval(isKnown: false) * 50 <= .seconds(5))
  }

  private func interval(
    isBusy: Bool = true,
    isKnown: Bool = true,
    isCalm: Bool = false,
    packetsPerSecond: Double = 0
  ) -> TimeAmount {
    QueryPace(idleBudget: 6000, members: 2, cost: 300).interval(
      isBusy: isBusy,
      isKnown: isKnown,
      isCalm: isCalm,
      packetsPerSecond: packetsPerSecond
    )
  }
}
