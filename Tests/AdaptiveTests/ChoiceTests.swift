import Testing

@testable import MagicalaneAdaptive

@Suite struct FallbackChoiceTests {
  private var choice = FallbackChoice(members: members("a", "b", "c"))

  @Test mutating func `the first of the list is the first choice`() {
    let seen1 = choice.take(sample(1, [.init(), .init(), .init()]))
    #expect(seen1?.chosen == "a")
    #expect(choice.order == [0, 1, 2])
  }

  @Test mutating func `a member that failed comes last until it is heard of again`() {
    _ = choice.take(sample(1, [heard, heard, heard]))
    let decision = choice.take(sample(2, [LegSample(failures: ["gone"]), heard, heard]))
    #expect(decision?.chosen == "b")
    #expect(decision?.alternative == "a")
    #expect(decision?.whyNot?.contains("gone") == true)
    #expect(choice.order == [1, 2, 0])
    let seen2 = choice.take(sample(3, [heard, heard, heard]))
    #expect(seen2?.chosen == "a")
  }

  @Test mutating func `where none works all are tried in order`() {
    let failed = LegSample(failures: ["gone"])
    _ = choice.take(sample(1, [failed, failed, failed]))
    #expect(choice.order == [0, 1, 2])
  }

  @Test mutating func `what stays as it was is no decision`() {
    _ = choice.take(sample(1, [heard, heard, heard]))
    let seen3 = choice.take(sample(2, [heard, heard, heard]))
    #expect(seen3 == nil)
  }
}

@Suite struct FastestChoiceTests {
  private var choice = FastestChoice(members: members("a", "b"))

  @Test mutating func `the one that opens faster is chosen`() {
    let seen4 = choice.take(sample(1, [opened(in: 0.2), opened(in: 0.1)]))
    #expect(seen4?.chosen == "b")
    #expect(choice.order == [1, 0])
  }

  @Test mutating func `two that are alike do not take turns`() {
    _ = choice.take(sample(1, [opened(in: 0.1), opened(in: 0.11)]))
    let seen5 = choice.take(sample(2, [opened(in: 0.11), opened(in: 0.1)]))
    #expect(seen5 == nil)
  }

  @Test mutating func `one that fails gives way to one that is slower`() {
    _ = choice.take(sample(1, [opened(in: 0.1), opened(in: 0.9)]))
    let seen6 = choice.take(sample(2, [LegSample(failures: ["gone"]), heard]))
    #expect(seen6?.chosen == "b")
  }

  @Test mutating func `nothing is chosen before a time is known`() {
    let seen7 = choice.take(sample(1, [.init(), .init()]))
    #expect(seen7 == nil)
    #expect(choice.order == [0, 1])
  }
}

private let heard = LegSample(isHeard: true)

private func opened(in seconds: Double) -> LegSample { LegSample(opens: [seconds], isHeard: true) }

private func sample(_ time: Double, _ legs: [LegSample]) -> PathSample { PathSample(time: time, legs: legs) }

private func members(_ names: String...) -> [AdaptiveMember] {
  names.map { AdaptiveMember(name: $0, type: "tls", bearsLoss: false) }
}
