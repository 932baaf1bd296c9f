import NIOCore

/// The pipeline that joins two streams: bytes both ways, back-pressure, half-close, errors, counters.
///
/// It works on any two channels of one event loop that keep the rules of `Transport`. One direction is a
/// `Flow`; each moves on its own:
///
///     open ──end of stream──► draining ──all written──► finished
///
/// When both have finished the session ended well. An error, or a stream that closes while a flow still
/// needs it, aborts both streams, so that the far peer sees an error and no clean end.
///
/// Nothing is copied and nothing waits here: a batch that was read is written to the other stream at once,
/// and the next one is asked for only while that stream is writable. What waits, waits in the other stream's
/// own buffer, below its high-water mark. Between two batches the duplex holds no byte, and that is where the
/// kernel can take over the copying (`Duplex+Splice.swift`).
///
/// The one exception: as long as nothing came from the target and the transport has another way to it, what
/// the client sent is kept too, so that a target's stream that breaks can be replaced
/// (`Duplex+Replacement.swift`):
///
///     keeping ──first byte or end of stream of the target, too much to keep──► settled
///      │   ▲
///      │   └─────────opened, and sent again─────────┐
///      └──target's stream breaks──► reopening ──────┴──failed, or ended meanwhile──► ended
///
/// Not thread-safe: everything happens on the streams' event loop.
final class Duplex {
  /// The two directions.
  enum Direction: Sendable {
    /// From the client to the target.
    case up
    /// From the target to the client.
    case down

    var opposite: Direction { self == .up ? .down : .up }
  }

  /// How a duplex ended.
  enum Outcome: Sendable {
    /// Both directions reached their end.
    case finished
    /// No byte moved for the idle time-out.
    case idle
    /// Somebody asked for it: drain time over, session deleted.
    case aborted(reason: String)
    /// The stream that this direction reads from broke.
    case failed(Direction, any Error)
  }

  /// The stream at the end that a direction reads from went away without an end of stream.
  struct UncleanEnd: Error, CustomStringConvertible {
    var description: String { "the stream closed before its end" }
  }

  /// Bytes moved so far, each way. The event loop of the streams writes them; anybody may read them.
  struct Counters: Sendable {
    var up = ByteCounter()
    var down = ByteCounter()
  }

  let client: DuplexEnd
  /// Another one once the target's stream was replaced.
  var target: DuplexEnd
  let counters: Counters
  let metrics: SessionMetrics?
  let memory: MemoryBudget
  var splicing: Splicing
  /// Nil where the target's stream cannot be replaced, or no longer.
  var replacement: Replacement?
  private let idleTimeout: TimeAmount
  private var onEnd: ((Outcome) -> Void)?
  private let clock: SessionClock
  private var idleTicks = 0
  private var bytesAtLastTick: UInt64 = 0

  /// What waits in the two streams to be sent.
  var waiting: WaitingBytes { splice?.waiting ?? WaitingBytes(up: target.waiting, down: client.waiting) }

  private init(
    client: DuplexEnd,
    target: DuplexEnd,
    counters: Counters,
    metrics: SessionMetrics?,
    memory: MemoryBudget,
    splicing: Splicing,
    replacement: Replacement?,
    idleTimeout: TimeAmount,
    clock: SessionClock,
    onEnd: @escaping (Outcome) -> Void
  ) {
    self.client = client
    self.target = target
    self.counters = counters
    self.metrics = metrics
    self.memory = memory
    self.splicing = splicing
    self.replacement = replacement
    self.idleTimeout = idleTimeout
    self.clock = clock
    self.onEnd = onEnd
  }

  /// Joins the two streams; from here on the duplex closes them.
  ///
  /// Call it on the event loop of both.
  /// - Parameters:
  ///   - memory: where what waits is counted.
  ///   - clock: the session's, for the idle time-out; nil for one of its own.
  ///   - splice: how the kernel takes the copying over; nil where it may not.
  ///   - replacement: how the target's stream can be opened again; nil where it cannot.
  ///   - onEnd: called once, on the loop, when both streams are done with.
  static func join(
    client: any Channel,
    target: any Channel,
    idleTimeout: TimeAmount,
    counters: Counters = Counters(),
    metrics: SessionMetrics? = nil,
    memory: MemoryBudget = MemoryBudget(),
    clock: SessionClock? = nil,
    splice: SplicePlan? = nil,
    replacement: ReplacementPlan? = nil,
    onEnd: @escaping (Outcome) -> Void
  ) throws -> Duplex {
    client.eventLoop.assertInEventLoop()
    target.eventLoop.assertInEventLoop()
    let clientEnd = DuplexEnd(reads: .up, counting: counters.up, memory: memory)
    let targetEnd = DuplexEnd(reads: .down, counting: counters.down, memory: memory)
    let duplex = Duplex(
      client: clientEnd,
      target: targetEnd,
      counters: counters,
      metrics: metrics,
      memory: memory,
      splicing: splice.map { .wanted($0) } ?? .never,
      replacement: replacement.map { Replacement($0, of: target) },
      idleTimeout: idleTimeout,
      clock: clock ?? SessionClock(on: client.eventLoop),
      onEnd: onEnd
    )
    clientEnd.attach(to: duplex, partner: targetEnd)
    targetEnd.attach(to: duplex, partner: clientEnd)
    for end in [clientEnd, targetEnd] { end.isWatched = replacement != nil }
    do {
      try client.pipeline.syncOperations.addHandler(clientEnd)
      try target.pipeline.syncOperations.addHandler(targetEnd)
    } catch {
      duplex.end(.failed(.up, error))
      throw error
    }
    duplex.start()
    return duplex
  }

  private func start() {
    scheduleIdleCheck()
    client.readIfWanted()
    target.readIfWanted()
  }

  /// Ends both streams as errors, for a reason that lies outside them.
  func abort(reason: String) {
    end(.aborted(reason: reason))
  }

  /// A flow finished, or an end closed: is everything done, or did something break?
  func endsChanged() {
    if client.flow == .finished && target.flow == .finished {
      end(.finished)
    }
  }

  /// A batch was read; to count it is one atomic addition.
  func moved(_ count: Int, _ direction: Direction) {
    switch direction {
    case .up: metrics?.bytes(up: count)
    case .down: metrics?.bytes(down: count)
    }
    if case .wanted(let plan) = splicing { considerSplice(plan) }
  }

  func failed(_ direction: Direction, _ error: any Error) {
    if direction == .down, replaceTarget(after: error) { return }
    end(.failed(direction, error))
  }

  func end(_ outcome: Outcome) {
    guard let onEnd else { return }
    self.onEnd = nil
    clock.stop()
    settle()
    endSplice(outcome)
    for end in [client, target] {
      if case .finished = outcome { end.close() } else { end.abort(reason: outcome.reason) }
      end.detach()
    }
    onEnd(outcome)
  }
}

extension Duplex {
  /// How many checks make one idle time-out: it ends a session at most this fraction late.
  private static let ticksPerTimeout = 4

  /// Idle means that the counters stood still, so that moving a byte costs no look at a clock.
  private func scheduleIdleCheck() {
    let interval = TimeAmount.nanoseconds(max(1, idleTimeout.nanoseconds / Int64(Self.ticksPerTimeout)))
    clock.set(in: interval) { [self] in
      let bytes = counters.up.value &+ counters.down.value
      idleTicks = bytes == bytesAtLastTick ? idleTicks + 1 : 0
      bytesAtLastTick = bytes
      if idleTicks >= Self.ticksPerTimeout {
        end(.idle)
      } else {
        scheduleIdleCheck()
      }
    }
  }
}

extension Duplex.Outcome {
  /// One word or short phrase for the log.
  var reason: String {
    switch self {
    case .finished: "finished"
    case .idle: "idle"
    case .aborted(let reason): reason
    case .failed(let direction, let error): "\(direction == .up ? "client" : "target"): \(error)"
    }
  }
}
