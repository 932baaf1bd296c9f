import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct NameCacheTests {
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
  private var cache: NameCache

  init() {
    var settings = ResolverSettings()
    settings.cache = .seconds(10)
    settings.cacheFailures = .seconds(1)
    cache = NameCache(settings, capacity: 8)
  }

  private func found(_ addresses: UInt32..., number: UInt64 = 1) -> NameCache.Answer {
    NameCache.Answer(result: .success(addresses.map(IPAddress.v4)), number: number)
  }

  private var failure: NameCache.Answer {
    NameCache.Answer(result: .failure(OpenError(.nameNotResolved, "no")), number: 1)
  }

  @Test mutating func `an answer holds for its time and not a moment longer`() throws {
    cache.keep(found(7), of: "x", at: start)
    let last = start + .seconds(10) - .nanoseconds(1)
    #expect(try cache.answer(to: "x", at: last)?.result.get() == [.v4(7)])
    #expect(cache.answer(to: "x", at: start + .seconds(10)) == nil)
    #expect(cache.count == 0)
  }

  @Test mutating func `to be used does not make an answer last longer`() {
    cache.keep(found(7), of: "x", at: start)
    for second in 0..<10 { #expect(cache.answer(to: "x", at: start + .seconds(Int64(second))) != nil) }
    #expect(cache.answer(to: "x", at: start + .seconds(10)) == nil)
  }

  @Test mutating func `a failure holds for its own time`() {
    cache.keep(failure, of: "x", at: start)
    #expect(throws: OpenError.self) {
      try cache.answer(to: "x", at: start + .milliseconds(999))?.result.get()
    }
    #expect(cache.answer(to: "x", at: start + .seconds(1)) == nil)
  }

  @Test mutating func `without a time nothing is kept, and what was kept goes`() {
    cache.keep(found(7), of: "x", at: start)
    cache.settings.cache = .zero
    cache.settings.cacheFailures = .zero
    cache.keep(found(8), of: "x", at: start)
    cache.keep(failure, of: "y", at: start)
    #expect(cache.count == 0)
  }

  @Test mutating func `an answer of very many addresses is not kept`() {
    let many = (0...UInt32(NameCache.mostAddresses)).map(IPAddress.v4)
    cache.keep(NameCache.Answer(result: .success(many), number: 1), of: "x", at: start)
    #expect(cache.count == 0)
    cache.keep(NameCache.Answer(result: .success(many.dropLast()), number: 1), of: "x", at: start)
    #expect(cache.count == 1)
  }

  @Test mutating func `who drops an answer does not drop a newer one`() {
    cache.keep(found(7, number: 1), of: "x", at: start)
    cache.keep(found(8, number: 2), of: "x", at: start)
    cache.drop("x", number: 1)
    #expect(cache.answer(to: "x", at: start)?.number == 2)
    cache.drop("x", number: 2)
    #expect(cache.answer(to: "x", at: start) == nil)
  }

  @Test mutating func `when it is full those whose time is over go first`() {
    for name in 0..<4 { cache.keep(found(1), of: "old\(name)", at: start) }
    for name in 0..<4 { cache.keep(found(1), of: "new\(name)", at: start + .seconds(5)) }
    cache.keep(found(1), of: "x", at: start + .seconds(10))
    #expect(cache.count == 5)
    for name in 0..<4 { #expect(cache.answer(to: "new\(name)", at: start + .seconds(10)) != nil) }
  }

  @Test mutating func `when it is full of good answers the quarter goes that was unused the longest`() {
    for name in 0..<8 { cache.keep(found(1), of: "\(name)", at: start) }
    _ = cache.answer(to: "0", at: start)
    cache.keep(found(1), of: "x", at: start)
    #expect(cache.count == 7)
    #expect(cache.answer(to: "1", at: start) == nil)
    #expect(cache.answer(to: "2", at: start) == nil)
    for name in ["0", "3", "7", "x"] { #expect(cache.answer(to: name, at: start) != nil) }
  }

  @Test mutating func `it never holds more than it may`() {
    for name in 0..<1000 {
      cache.keep(found(1), of: "\(name)", at: start)
      #expect(cache.count <= 8)
      #expect(cache.answer(to: "\(name)", at: start) != nil)
    }
  }

  @Test mutating func `a name that is asked for again takes no other's place`() {
    for name in 0..<8 { cache.keep(found(1), of: "\(name)", at: start) }
    cache.keep(found(2, number: 2), of: "3", at: start)
    #expect(cache.count == 8)
  }
}
