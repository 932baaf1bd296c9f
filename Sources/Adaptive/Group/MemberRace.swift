import MagicalaneCore
import NIOCore

/// Opens one stream through the first member that answers.
///
///     attempt 1 ── failed by the member's fault ──► attempt 2 ── … ──► all failed: the first error
///         │ └── answered: opened, or refused for the target's sake ──► done
///         └── silent for the head start ──► attempt 2 beside it ──► the first answer wins
///
/// A member that proved alive since the attempt began is slow because the target is; it gets more time, and no
/// second stream troubles the target. Streams that come too late are closed.
///
/// All calls on the event loop of the session.
final class MemberRace {
  private let request: ConnectRequest
  private let loop: any EventLoop
  private let promise: EventLoopPromise<any Channel>
  private let headStart: TimeAmount
  private var waiting: ArraySlice<Leg>
  /// Attempts without an answer.
  private var running: [(leg: Leg, begun: NIODeadline)] = []
  private var timer: Scheduled<Void>?
  private var firstError: OpenError?
  private var isDone = false
  private let hooks: Hooks

  /// What the group wants to know of a race.
  struct Hooks {
    /// An attempt begins.
    var begun: (Leg) -> Void
    /// A stream was opened after so long; it is this session's.
    var won: (Leg, any Channel, TimeAmount) -> Void
    /// A member failed.
    var failed: (Leg, OpenError) -> Void
  }

  /// - Parameters:
  ///   - legs: at least one, in the order in which they are tried.
  ///   - headStart: how long each is waited for before the next one starts beside it.
  init(
    _ request: ConnectRequest,
    legs: [Leg],
    headStart: TimeAmount,
    on loop: any EventLoop,
    hooks: Hooks
  ) {
    self.request = request
    self.loop = loop
    self.headStart = headStart
    self.hooks = hooks
    waiting = legs[...]
    promise = loop.makePromise()
  }

  func run() -> EventLoopFuture<any Channel> {
    startNext()
    return promise.futureResult
  }

  private func startNext() {
    guard !isDone, let leg = waiting.popFirst() else { return }
    let begun = NIODeadline.now()
    running.append((leg, begun))
    if !waiting.isEmpty {
      let this = NIOLoopBound(self, eventLoop: loop)
      leg.join(self) { [loop] in loop.execute { this.value.released(leg) } }
      armTimer()
    }
    hooks.begun(leg)
    var request = request
    request.leg = leg.id
    leg.member.transport.connect(request, on: loop).hop(to: loop).assumeIsolated().whenComplete {
      self.answered($0, leg, begun)
    }
  }

  private func armTimer() {
    timer?.cancel()
    timer = loop.assumeIsolated().scheduleTask(in: headStart) { self.headStartOver() }
  }

  private func headStartOver() {
    guard !isDone, !waiting.isEmpty else { return }
    if running.contains(where: { $0.leg.lastHeard > $0.begun }) { armTimer() } else { startNext() }
  }

  /// The member of a running attempt is known to have failed, though this attempt has no answer yet.
  private func released(_ leg: Leg) {
    leg.leave(self)
    if running.contains(where: { $0.leg === leg }) { startNext() }
  }

  private func answered(_ result: Result<any Channel, any Error>, _ leg: Leg, _ begun: NIODeadline) {
    leg.leave(self)
    running.removeAll { $0.leg === leg }
    switch result {
    case .success(let channel) where isDone: channel.close(promise: nil)
    case .success(let channel):
      finish()
      leg.heard()
      hooks.won(leg, channel, .now() - begun)
      promise.succeed(channel)
    case .failure(let error):
      let error = OpenError(error)
      if error.isOfTunnel { hooks.failed(leg, error) } else if !leg.isAtFault(error) { leg.heard() }
      if isDone { return }
      guard leg.isAtFault(error) else {
        finish()
        return promise.fail(error)
      }
      firstError = firstError ?? error
      if waiting.isEmpty && running.isEmpty {
        finish()
        promise.fail(firstError ?? error)
      } else {
        startNext()
      }
    }
  }

  private func finish() {
    isDone = true
    timer?.cancel()
    for (leg, _) in running { leg.leave(self) }
  }
}

extension NIODeadline {
  static func - (later: NIODeadline, earlier: NIODeadline) -> TimeAmount {
    .nanoseconds(Int64(later.uptimeNanoseconds) - Int64(earlier.uptimeNanoseconds))
  }
}

extension Leg {
  /// Whether another member may do better. Where there is no tunnel's server, another way may reach a target that
  /// this one does not reach; of the member itself that says nothing.
  func isAtFault(_ error: OpenError) -> Bool {
    if error.isOfTunnel { return true }
    guard !(member.transport is any TunnelTransport) else { return false }
    switch error.kind {
    case .notAllowed, .nameNotResolved, .unavailable: return false
    default: return true
    }
  }
}
