import NIOCore

/// The one deadline that a session waits for: its request, then its stream, then its next byte.
///
/// A session goes through its deadlines one after the other, mostly long before they come, and each is later than
/// the one before. So one timer serves them all: it stays set when the deadline moves on, and sets itself again
/// when it goes off early. To set and cancel a timer of the loop for each would cost more than to relay a byte.
///
/// Not thread-safe: all calls on the event loop.
final class SessionClock {
  private let loop: any EventLoop
  private var due: NIODeadline?
  private var action: (() -> Void)?
  private var timer: Scheduled<Void>?
  private var timerDue = NIODeadline.distantFuture

  init(on loop: any EventLoop) {
    self.loop = loop
  }

  /// Calls `action` at the deadline, in place of what was waited for so far.
  func set(_ deadline: NIODeadline, _ action: @escaping () -> Void) {
    due = deadline
    self.action = action
    guard timer == nil || deadline < timerDue else { return }
    timer?.cancel()
    startTimer(deadline)
  }

  /// As `set(_:_:)`, so long from now.
  func set(in time: TimeAmount, _ action: @escaping () -> Void) {
    set(loop.now + time, action)
  }

  /// Waits for nothing, as after a request that came in time; the timer may stay for the next deadline.
  func clear() {
    due = nil
    action = nil
  }

  /// Waits for nothing ever again.
  func stop() {
    clear()
    timer?.cancel()
    timer = nil
  }

  private func startTimer(_ deadline: NIODeadline) {
    timerDue = deadline
    timer = loop.assumeIsolated().scheduleTask(deadline: deadline) { self.goOff() }
  }

  private func goOff() {
    timer = nil
    guard let due else { return }
    guard due <= timerDue else { return startTimer(due) }
    let action = action
    clear()
    action?()
  }
}
