import CSplice
import Foundation
import NIOConcurrencyHelpers

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A thread that moves the bytes of spliced sessions: with a poller of its own, for NIO's reads
/// into buffers whatever it finds readable.
///
/// There are as many as cores; they start with the first spliced session and stay.
final class SpliceLoop: Sendable {
  private enum Command: Sendable {
    case add(Splice)
    case abort(Splice, Duplex.Outcome)
  }

  private static let eventsAtOnce = 256

  private let poller: CInt
  /// Tells the thread of commands.
  private let bell: CInt
  private let commands = NIOLockedValueBox<[Command]>([])

  /// - Throws: `SpliceError` where the system has no more descriptors.
  init() throws {
    poller = csplice_poller()
    guard poller >= 0 else { throw SpliceError(code: -poller) }
    bell = csplice_bell()
    let watched = bell < 0 ? bell : csplice_watch_bell(poller, bell)
    guard watched >= 0 else {
      close(poller)
      if bell >= 0 { close(bell) }
      throw SpliceError(code: -watched)
    }
  }

  /// Starts the thread, which holds the loop from then on.
  func start(_ number: Int) {
    let thread = Thread { [self] in run() }
    thread.name = "splice-\(number)"
    thread.start()
  }

  /// Takes a session over; from any thread.
  func add(_ splice: Splice) {
    send(.add(splice))
  }

  /// Breaks a session off; from any thread.
  func abort(_ splice: Splice, _ outcome: Duplex.Outcome) {
    send(.abort(splice, outcome))
  }

  private func send(_ command: Command) {
    let isFirst = commands.withLockedValue { commands in
      commands.append(command)
      return commands.count == 1
    }
    if isFirst { csplice_ring(bell) }
  }
}

// MARK: The thread

extension SpliceLoop {
  /// What belongs to the thread.
  private struct Local {
    var bySocket: [CInt: Splice] = [:]
    /// Those that have more to move.
    var ready: [ObjectIdentifier: Splice] = [:]
    let pipes = SplicePipes()
  }

  private func run() {
    var local = Local()
    var events = [csplice_event](repeating: csplice_event(), count: Self.eventsAtOnce)
    while true {
      let count = csplice_wait(poller, &events, CInt(events.count), local.ready.isEmpty ? -1 : 0)
      for event in events.prefix(Int(count)) { take(event, &local) }
      let turns = local.ready
      local.ready = [:]
      for splice in turns.values { move(splice, &local) }
    }
  }

  private func take(_ event: csplice_event, _ local: inout Local) {
    guard event.descriptor != bell else { return obey(&local) }
    guard let splice = local.bySocket[event.descriptor] else { return }
    splice.ready(
      event.descriptor,
      readable: event.readable != 0,
      writable: event.writable != 0,
      broken: event.broken != 0
    )
    local.ready[ObjectIdentifier(splice)] = splice
  }

  private func obey(_ local: inout Local) {
    csplice_unring(bell)
    let commands = commands.withLockedValue { commands in
      defer { commands = [] }
      return commands
    }
    for command in commands {
      switch command {
      case .add(let splice): register(splice, &local)
      case .abort(let splice, let outcome):
        splice.end(outcome)
        forget(splice, &local)
      }
    }
  }

  private func register(_ splice: Splice, _ local: inout Local) {
    for socket in [splice.client, splice.target] {
      let watched = csplice_watch(poller, socket)
      guard watched >= 0 else {
        splice.end(.aborted(reason: "no watch on a socket: \(SpliceError(code: -watched))"))
        return forget(splice, &local)
      }
      local.bySocket[socket] = splice
    }
    local.ready[ObjectIdentifier(splice)] = splice
  }

  private func move(_ splice: Splice, _ local: inout Local) {
    switch splice.move(pipes: local.pipes) {
    case .waits: ()
    case .goesOn: local.ready[ObjectIdentifier(splice)] = splice
    case .over: forget(splice, &local)
    }
  }

  /// The sockets close with the last reference.
  private func forget(_ splice: Splice, _ local: inout Local) {
    for socket in [splice.client, splice.target] where local.bySocket[socket] === splice {
      csplice_unwatch(poller, socket)
      local.bySocket[socket] = nil
    }
    local.ready[ObjectIdentifier(splice)] = nil
  }
}

/// Empty pipes that wait for their next flow; used by one thread.
final class SplicePipes {
  private static let most = 64
  private var spare: [SplicePipe] = []

  func take(_ capacity: Int) throws -> SplicePipe {
    if spare.last?.capacity == capacity, let pipe = spare.popLast() { return pipe }
    return try SplicePipe(capacity: capacity)
  }

  /// One that is not empty is closed instead.
  func giveBack(_ pipe: SplicePipe) {
    guard pipe.held == 0, spare.count < Self.most else { return }
    spare.append(pipe)
  }
}

/// The loops of the process; they are given sessions in turn.
enum SpliceLoops {
  private static let next = NIOLockedValueBox(0)
  private static let all: [SpliceLoop] = {
    let loops = (0..<ProcessInfo.processInfo.activeProcessorCount).compactMap { _ in try? SpliceLoop() }
    for (number, loop) in loops.enumerated() { loop.start(number) }
    return loops
  }()

  /// Nil where the system had no descriptors for them.
  static func any() -> SpliceLoop? {
    guard !all.isEmpty else { return nil }
    let turn = next.withLockedValue { next in
      next &+= 1
      return next
    }
    return all[Int(UInt(bitPattern: turn) % UInt(all.count))]
  }
}
