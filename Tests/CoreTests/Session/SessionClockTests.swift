import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// One timer for the deadlines that a session has one after the other.
@Suite struct SessionClockTests {
  private final class Rung {
    var names: [String] = []
  }

  private let loop = EmbeddedEventLoop()
  private let rung = Rung()

  private func set(_ clock: SessionClock, _ seconds: Int64, _ name: String) {
    clock.set(in: .seconds(seconds)) { [rung] in rung.names.append(name) }
  }

  @Test func `a deadline comes once, at its time`() {
    let clock = SessionClock(on: loop)
    set(clock, 5, "a")
    loop.advanceTime(by: .seconds(4))
    #expect(rung.names == [])
    loop.advanceTime(by: .seconds(1))
    #expect(rung.names == ["a"])
    loop.advanceTime(by: .hours(1))
    #expect(rung.names == ["a"])
  }

  @Test func `a later deadline takes the place of an earlier one`() {
    let clock = SessionClock(on: loop)
    set(clock, 5, "a")
    loop.advanceTime(by: .seconds(3))
    set(clock, 5, "b")
    loop.advanceTime(by: .milliseconds(4999))
    #expect(rung.names == [])
    loop.advanceTime(by: .milliseconds(1))
    #expect(rung.names == ["b"])
  }

  @Test func `an earlier deadline takes the place of a later one`() {
    let clock = SessionClock(on: loop)
    set(clock, 60, "a")
    set(clock, 2, "b")
    loop.advanceTime(by: .seconds(2))
    #expect(rung.names == ["b"])
    loop.advanceTime(by: .seconds(60))
    #expect(rung.names == ["b"])
  }

  @Test func `what is cleared does not come, and the next one does`() {
    let clock = SessionClock(on: loop)
    set(clock, 5, "a")
    clock.clear()
    loop.advanceTime(by: .seconds(10))
    #expect(rung.names == [])
    set(clock, 5, "b")
    loop.advanceTime(by: .seconds(5))
    #expect(rung.names == ["b"])
  }

  @Test func `a deadline may be set again when it comes`() {
    let clock = SessionClock(on: loop)
    clock.set(in: .seconds(1)) { [rung] in
      rung.names.append("a")
      set(clock, 1, "b")
    }
    loop.advanceTime(by: .seconds(1))
    loop.advanceTime(by: .seconds(1))
    #expect(rung.names == ["a", "b"])
  }

  @Test func `a clock that is stopped is held by no timer`() {
    weak var gone: SessionClock?
    do {
      let clock = SessionClock(on: loop)
      gone = clock
      set(clock, 5, "a")
      set(clock, 9, "b")
      clock.stop()
    }
    loop.run()
    #expect(gone == nil)
    loop.advanceTime(by: .seconds(60))
    #expect(rung.names == [])
  }
}
