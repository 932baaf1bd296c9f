import CSplice
import NIOCore
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Two TCP sockets whose bytes the kernel moves: the duplex of a session, carried on without a copy.
///
/// Each direction is a flow through a pipe of its own:
///
///     open ──end of stream, pipe empty──► finished
///
/// A flow moves on while its source has bytes and the pipe room, and while its sink takes them; so the sink's
/// pace is the source's, and no more waits than the pipe holds. When both have finished the session ended well.
///
/// Made on the session's event loop, then used by its `SpliceLoop`'s thread alone but for what says otherwise.
final class Splice: @unchecked Sendable {
  // Unchecked: all that can change belongs to the loop's thread from `SpliceLoop.add` on.

  /// One direction.
  private struct Flow {
    let direction: Duplex.Direction
    let source: CInt
    let sink: CInt
    let bytes: ByteCounter
    var pipe: SplicePipe?
    var canRead = true
    var canWrite = true
    var sawEnd = false
    var isFinished = false
  }

  /// What a thread that moves bytes is told after a turn.
  enum Turn {
    /// Nothing more can move before the kernel says so.
    case waits
    /// More could move; others are to have their turn.
    case goesOn
    case over
  }

  /// Moves of one flow in a turn.
  private static let movesPerTurn = 16

  let client: CInt
  let target: CInt
  private let pipeCapacity: Int
  private var flows: [Flow]
  private let metrics: SessionMetrics?
  /// For what is in both pipes.
  private var claim: MemoryClaim
  private var onEnd: (@Sendable (Duplex.Outcome) -> Void)?
  private let waitingUp = Atomic(0)
  private let waitingDown = Atomic(0)

  /// - Parameters:
  ///   - client: a connected TCP socket that never waits; owned from here on.
  ///   - target: another one.
  ///   - pipeCapacity: bytes that may wait in a pipe.
  ///   - onEnd: called once, on the loop's thread.
  init(
    client: CInt,
    target: CInt,
    pipeCapacity: Int,
    counters: Duplex.Counters,
    metrics: SessionMetrics?,
    memory: MemoryBudget = MemoryBudget(),
    onEnd: @escaping @Sendable (Duplex.Outcome) -> Void
  ) {
    self.client = client
    self.target = target
    self.pipeCapacity = pipeCapacity
    self.metrics = metrics
    claim = MemoryClaim(memory)
    self.onEnd = onEnd
    flows = [
      Flow(direction: .up, source: client, sink: target, bytes: counters.up),
      Flow(direction: .down, source: target, sink: client, bytes: counters.down),
    ]
  }

  deinit {
    close(client)
    close(target)
  }

  /// What is in the pipes; from any thread.
  var waiting: WaitingBytes {
    WaitingBytes(up: waitingUp.load(ordering: .relaxed), down: waitingDown.load(ordering: .relaxed))
  }
}

// MARK: Short paths

extension Splice {
  /// A path with such a round trip, in microseconds, does not leave this host, or hardly.
  private static let shortRoundTrip = 100
  /// Fills such a path at 20 Gbit/s.
  private static let enoughForShortPath = 256 << 10

  /// Most bytes that a socket whose shortest round trip took so many microseconds should have on their way; nil
  /// where the kernel is to find it out, for the path may be long, or there is no such time.
  static func sendingLimit(roundTrip: Int) -> Int? {
    (0...shortRoundTrip).contains(roundTrip) ? enoughForShortPath : nil
  }

  /// Lets a socket with a short path have little on its way.
  ///
  /// The kernel would grow that to some megabytes, which are in no cache of the processor any more when the peer,
  /// on this host most likely, copies them. A byte costs it twice as much then.
  func limitShortPaths() {
    for socket in [client, target] {
      guard let limit = Self.sendingLimit(roundTrip: csplice_least_round_trip(socket)) else { continue }
      // Where it fails the kernel goes on as ever.
      _ = csplice_limit_sending(socket, CInt(limit))
    }
  }
}

// MARK: Turns

extension Splice {
  /// The kernel says that something changed with one of the sockets (edge-triggered).
  func ready(_ socket: CInt, readable: Bool, writable: Bool, broken: Bool) {
    for index in flows.indices {
      if flows[index].source == socket, readable || broken { flows[index].canRead = true }
      if flows[index].sink == socket, writable || broken { flows[index].canWrite = true }
    }
    if broken { check(socket) }
  }

  /// An error that no flow might come across: its source has ended and nothing is left to send to it.
  private func check(_ socket: CInt) {
    var code: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &length) == 0, code != 0 else { return }
    end(.failed(socket == client ? .up : .down, SpliceError(code: code)))
  }

  /// Moves what can be moved now, up to a fair share.
  ///
  /// - Parameter pipes: where a flow gets its pipe when it has its first byte to move.
  func move(pipes: SplicePipes) -> Turn {
    var goesOn = false
    for index in flows.indices where onEnd != nil {
      let before = flows[index].bytes.value
      goesOn = move(&flows[index], pipes) || goesOn
      count(flows[index], since: before)
    }
    claim.hold(flows.reduce(0) { $0 + ($1.pipe?.held ?? 0) })
    if flows.allSatisfy(\.isFinished) { end(.finished) }
    guard onEnd != nil else { return .over }
    return goesOn ? .goesOn : .waits
  }

  private func count(_ flow: Flow, since before: UInt64) {
    let held = flow.pipe?.held ?? 0
    let moved = Int(flow.bytes.value &- before)
    switch flow.direction {
    case .up:
      waitingUp.store(held, ordering: .relaxed)
      if moved > 0 { metrics?.bytes(up: moved) }
    case .down:
      waitingDown.store(held, ordering: .relaxed)
      if moved > 0 { metrics?.bytes(down: moved) }
    }
  }

  /// - Returns: whether it stopped for fairness alone.
  private func move(_ flow: inout Flow, _ pipes: SplicePipes) -> Bool {
    guard !flow.isFinished else { return false }
    for _ in 0..<Splice.movesPerTurn {
      let filled = fill(&flow, pipes)
      guard onEnd != nil else { return false }
      let drained = drain(&flow)
      guard onEnd != nil else { return false }
      if flow.sawEnd, flow.pipe?.held ?? 0 == 0 {
        finish(&flow, pipes)
        return false
      }
      if !filled && !drained { return false }
    }
    return true
  }

  /// From the source into the pipe.
  private func fill(_ flow: inout Flow, _ pipes: SplicePipes) -> Bool {
    guard flow.canRead, !flow.sawEnd, flow.pipe.map({ $0.held < $0.capacity }) ?? true else { return false }
    guard let pipe = flow.pipe ?? take(pipes) else { return false }
    flow.pipe = pipe
    let count = csplice_move(flow.source, pipe.input, pipe.capacity - pipe.held)
    switch count {
    case 1...:
      pipe.held += Int(count)
      flow.bytes.add(Int(count))
      return true
    case 0:
      flow.sawEnd = true
      return true
    case -Int(EAGAIN):
      // A pipe of many short pieces is full before its bytes say so; then this tells nothing of the source.
      if pipe.held == 0 { flow.canRead = false }
      return false
    default:
      end(.failed(flow.direction, SpliceError(code: CInt(-count))))
      return false
    }
  }

  private func take(_ pipes: SplicePipes) -> SplicePipe? {
    do {
      return try pipes.take(pipeCapacity)
    } catch {
      end(.aborted(reason: "no pipe to move bytes through: \(error)"))
      return nil
    }
  }

  /// From the pipe to the sink.
  private func drain(_ flow: inout Flow) -> Bool {
    guard flow.canWrite, let pipe = flow.pipe, pipe.held > 0 else { return false }
    let count = csplice_move(pipe.output, flow.sink, pipe.held)
    switch count {
    case 0...:
      pipe.held -= Int(count)
      return count > 0
    case -Int(EAGAIN):
      flow.canWrite = false
      return false
    default:
      end(.failed(flow.direction.opposite, SpliceError(code: CInt(-count))))
      return false
    }
  }

  private func finish(_ flow: inout Flow, _ pipes: SplicePipes) {
    flow.isFinished = true
    flow.pipe.map(pipes.giveBack)
    flow.pipe = nil
    // Fails where the sink is gone already; then the other flow comes across it.
    shutdown(flow.sink, CInt(SHUT_WR))
  }
}

// MARK: End

extension Splice {
  /// Ends both sockets as errors where the outcome is none that both agreed on.
  func end(_ outcome: Duplex.Outcome) {
    guard let onEnd else { return }
    self.onEnd = nil
    if case .finished = outcome {
    } else {
      // RST instead of FIN: the peers must not take what they have for all that there was.
      var lingering = linger(l_onoff: 1, l_linger: 0)
      for socket in [client, target] {
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &lingering, socklen_t(MemoryLayout<linger>.size))
      }
    }
    onEnd(outcome)
  }
}
