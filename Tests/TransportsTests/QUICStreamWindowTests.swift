import Testing

@testable import MagicalaneTransports

@Suite struct QUICStreamWindowTests {
  private static let roundTrip: UInt64 = 40_000_000

  private func grow(_ window: inout QUICStreamWindow, pieces: Int, of size: UInt64, every pause: UInt64) {
    for piece in 1...UInt64(pieces) {
      _ = window.take(size, now: piece * pause) { QUICStreamWindowTests.roundTrip }
    }
  }

  @Test("a reader that keeps up with its path gets the largest window, and no larger one")
  func fast() {
    let windows = QUICWindows(buffer: 16 << 20)
    var window = QUICStreamWindow(windows)
    grow(&window, pieces: 2000, of: 64 << 10, every: QUICStreamWindowTests.roundTrip / 40)
    #expect(window.size == windows.maxStream)
  }

  @Test("a slow reader keeps its small window, however much it takes")
  func slow() {
    let windows = QUICWindows(buffer: 16 << 20)
    var window = QUICStreamWindow(windows)
    grow(&window, pieces: 2000, of: 64 << 10, every: 3 * QUICStreamWindowTests.roundTrip)
    #expect(window.size == windows.initialStream)
  }

  @Test("what a window grew by is told once")
  func growth() {
    let windows = QUICWindows(buffer: 16 << 20)
    var window = QUICStreamWindow(windows)
    var told = windows.initialStream
    for now in 1...100 as ClosedRange<UInt64> { told += window.take(1 << 20, now: now) { 1000 } - (1 << 20) }
    #expect(told == windows.maxStream)
  }

  @Test("the largest window holds a path of 1 Gbit/s and 100 ms, while ngtcp2 keeps half of the first back")
  func wide() {
    let windows = QUICWindows(buffer: 16 << 20)
    #expect(windows.maxStream - windows.initialStream / 2 > 12_500_000)
    #expect(windows.connection / 2 > 12_500_000)
  }

  @Test("a window shrinks as its bytes are taken where memory runs short, and grows again where it does not")
  func scarce() {
    let windows = QUICWindows(buffer: 16 << 20)
    var window = QUICStreamWindow(windows)
    grow(&window, pieces: 2000, of: 64 << 10, every: QUICStreamWindowTests.roundTrip / 40)
    let before = window.size
    let later = 10_000 * QUICStreamWindowTests.roundTrip
    #expect(window.take(1 << 20, now: later, room: 4 << 20) { 1000 } == 0)
    #expect(window.size == before - (1 << 20))
    for now in later...later + 100 { _ = window.take(1 << 20, now: now, room: 0) { 1000 } }
    #expect(window.size == windows.initialStream)
    #expect(window.take(1000, now: later + 100, room: 0) { 1000 } == 1000)
    for now in later + 100...later + 300 { _ = window.take(1 << 20, now: now) { 1000 } }
    #expect(window.size == windows.maxStream)
  }

  @Test("a window never exceeds the buffer")
  func small() {
    let windows = QUICWindows(buffer: 64 << 10)
    var window = QUICStreamWindow(windows)
    for now in 1...100 as ClosedRange<UInt64> { _ = window.take(1 << 20, now: now) { 1000 } }
    #expect(window.size < 64 << 10)
  }
}
