import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// One member as a group uses it: its name to the far end, what its streams count, and who waits for it.
///
/// Safe from any thread; touched a few times per session, never per byte.
final class Leg: Sendable {
  let index: Int
  let member: TransportMember
  let id = LegID()
  /// What this end sees of the leg's paths.
  let ledger = PathLedger()
  let sessions = Atomic(0)
  let opened = Atomic<UInt64>(0)
  let failed = Atomic<UInt64>(0)
  let probeBytes = Atomic<UInt64>(0)
  private let heardAt = Atomic<UInt64>(0)
  private let state = NIOLockedValueBox(State())

  private struct State {
    /// Streams on which no byte of the target has come.
    var young: [ObjectIdentifier: any Channel] = [:]
    /// Races that wait for an answer of this leg.
    var races: [ObjectIdentifier: @Sendable () -> Void] = [:]
    var lastFailure: String?
    var failedAt = NIODeadline.uptimeNanoseconds(0)
    var reports = PathStatus.Reports.none
  }

  init(index: Int, member: TransportMember) {
    self.index = index
    self.member = member
  }

  /// Whether there is a server that can be asked; `direct`, and a member that chooses itself, have none.
  var hasServer: Bool { member.transport is any TunnelTransport }

  /// Something came from the server.
  func heard() {
    heardAt.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed)
  }

  /// When something came from the server last; long ago where nothing did.
  var lastHeard: NIODeadline { .uptimeNanoseconds(heardAt.load(ordering: .relaxed)) }

  var lastFailure: String? { state.withLockedValue { $0.lastFailure } }

  /// - Returns: false where the same was said a moment ago.
  func noteFailure(_ reason: String) -> Bool {
    let now = NIODeadline.now()
    let isNew = state.withLockedValue { state in
      let isNew = state.lastFailure != reason || state.failedAt + .milliseconds(100) < now
      if isNew { (state.lastFailure, state.failedAt) = (reason, now) }
      return isNew
    }
    if isNew { failed.add(1, ordering: .relaxed) }
    return isNew
  }

  /// Whether the far end tells what it saw.
  var reports: PathStatus.Reports {
    get { state.withLockedValue { $0.reports } }
    set { state.withLockedValue { $0.reports = newValue } }
  }

  // MARK: Races

  /// Calls `failed` when the member fails while the race waits for it.
  func join(_ race: MemberRace, failed: @escaping @Sendable () -> Void) {
    state.withLockedValue { $0.races[ObjectIdentifier(race)] = failed }
  }

  func leave(_ race: MemberRace) {
    state.withLockedValue { _ = $0.races.removeValue(forKey: ObjectIdentifier(race)) }
  }

  /// Tells those who wait for the member that they need not.
  func releaseRaces() {
    for failed in state.withLockedValue({ Array($0.races.values) }) { failed() }
  }

  // MARK: Young streams

  /// The stream carries a session of which the target has not sent a byte.
  func addYoung(_ channel: any Channel) {
    state.withLockedValue { $0.young[ObjectIdentifier(channel)] = channel }
  }

  func removeYoung(_ channel: any Channel) {
    state.withLockedValue { _ = $0.young.removeValue(forKey: ObjectIdentifier(channel)) }
  }

  /// Breaks the streams on which no byte of the target has come, so that their sessions are opened elsewhere.
  func breakYoung(_ error: MemberLost) {
    let young = state.withLockedValue { state in
      defer { state.young = [:] }
      return Array(state.young.values)
    }
    for channel in young {
      channel.eventLoop.execute {
        channel.pipeline.fireErrorCaught(error)
        channel.close(promise: nil)
      }
    }
  }
}

/// The member that carries a stream does not answer any more.
struct MemberLost: Error, CustomStringConvertible {
  var member: String
  var reason: String

  var description: String { "the path by '\(member)' is lost: \(reason)" }
}

/// Waits at the end of a new stream's pipeline for the first byte of the target.
final class FirstByteHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let leg: Leg

  init(_ leg: Leg) {
    self.leg = leg
  }

  func handlerAdded(context: ChannelHandlerContext) {
    leg.addYoung(context.channel)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    leg.removeYoung(context.channel)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    leg.heard()
    context.fireChannelRead(data)
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }
}
