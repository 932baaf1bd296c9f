import DequeModule
import Dispatch
import Foundation
import Logging
import MagicalaneCore
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// Opens sessions through the member that a `Choice` prefers, and gathers what the choice rests on.
///
///     sessions ──► MemberRace ──► members              any loop
///                      │ opened, failed
///                      ▼
///     LegMonitor ──► pending sample ──tick──► Choice ──► Decision      the home loop
///
/// It opens nothing before the first session.
final class TransportGroup: Sendable {
  /// What a group is made of.
  struct Parts: Sendable {
    var name: String
    var members: [TransportMember]
    var settings: GroupSettings
    var loops: any EventLoopGroup
    var health: TransportHealth
    var events: EventLog?
    var logger: Logger
    var trace: TraceFile?
  }

  private struct State {
    var choice: any Choice
    var pending: [LegSample]
    var decisions: Deque<Decision> = []
    var isStarted = false
    var isShutDown = false
    var watches: [TransportHealth.WatchToken] = []
    /// Since when all members are known to lose little; nil where they are not.
    var calmSince: NIODeadline?
  }

  private static let decisionsKept = 256
  /// A group without sessions is still busy for so long, for sessions seldom come alone.
  private static let busyFor = TimeAmount.seconds(10)
  /// Paths that were calm for so long are looked at less often.
  private static let calmFor = TimeAmount.seconds(20)

  let legs: [Leg]
  let settings: GroupSettings
  private let parts: Parts
  private let home: any EventLoop
  private let state: NIOLockedValueBox<State>
  private let monitors = NIOLockedValueBox<NIOLoopBound<[LegMonitor]>?>(nil)
  private let metrics: GroupMetrics
  private let lastUsed = Atomic<UInt64>(0)

  init(_ parts: Parts, choice: any Choice) {
    self.parts = parts
    settings = parts.settings
    legs = parts.members.enumerated().map { Leg(index: $0, member: $1) }
    home = parts.loops.next()
    metrics = GroupMetrics(transport: parts.name, members: parts.members.map(\.name))
    state = NIOLockedValueBox(
      State(choice: choice, pending: Array(repeating: LegSample(), count: parts.members.count))
    )
  }

  // MARK: Opening

  /// See `Transport.connect`.
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    guard loop.inEventLoop else { return loop.flatSubmit { self.connect(request, on: loop) } }
    // Before it starts, or the home loop might find nobody there and take its time.
    noteUse()
    start()
    return race(request, state.withLockedValue { $0.choice.order }.map { legs[$0] }, on: loop)
  }

  private func race(_ request: ConnectRequest, _ legs: [Leg], on loop: any EventLoop) -> EventLoopFuture<
    any Channel
  > {
    noteUse()
    let hooks = MemberRace.Hooks(
      begun: { leg in self.query(leg) },
      won: { leg, channel, time in self.adopt(channel, leg, request, after: time) },
      failed: { leg, error in self.failed(leg, error.message) }
    )
    return MemberRace(request, legs: legs, headStart: settings.headStart, on: loop, hooks: hooks).run()
  }

  /// The stream is this session's; called on its loop.
  private func adopt(_ channel: any Channel, _ leg: Leg, _ request: ConnectRequest, after time: TimeAmount) {
    request.carrier?.member = leg.member.name
    leg.opened.add(1, ordering: .relaxed)
    leg.sessions.add(1, ordering: .relaxed)
    channel.closeFuture.whenComplete { _ in leg.sessions.subtract(1, ordering: .relaxed) }
    leg.ledger.attach(channel)
    if settings.replay > 0 {
      // Fails where the stream closed meanwhile, and then nothing is left to watch.
      try? channel.pipeline.syncOperations.addHandler(FirstByteHandler(leg))
    }
    metrics.opened(leg.index)
    note(leg) { sample in
      sample.isHeard = true
      // Where openings are compared, those of control streams are, which no target slows down.
      let isComparable = !settings.measuresOpening || !leg.hasServer
      if isComparable { sample.opens.append(time.seconds) }
    }
  }

  /// See `ChoosingTransport.reopen`.
  ///
  /// A broken stream does not make a broken member: the target may have reset it. Where the member answers a query
  /// now, the error is the session's own.
  func reopen(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel>? {
    guard let broken = legs.first(where: { $0.member.name == request.carrier?.member }) else { return nil }
    let others = state.withLockedValue { $0.choice.order }.map { legs[$0] }.filter { $0 !== broken }
    guard !others.isEmpty else { return nil }
    let asked = NIODeadline.now()
    return isAlive(broken, since: asked, on: loop).flatMap { isAlive in
      guard !isAlive else {
        return loop.makeFailedFuture(OpenError(.failed, "the path by '\(broken.member.name)' is in order"))
      }
      return self.race(request, others, on: loop)
    }
  }

  /// Whether the member answers a query that goes out now. One that cannot be asked is alive unless it is known to
  /// be down: in doubt a session fails, and no request goes to its target twice.
  private func isAlive(_ leg: Leg, since asked: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<Bool>
  {
    let status = statuses[leg.index]
    if status.condition == .down { return loop.makeSucceededFuture(false) }
    guard leg.hasServer, leg.reports != .lacking else { return loop.makeSucceededFuture(true) }
    home.execute { self.monitors.withLockedValue { $0 }?.value[leg.index].queryUrgently() }
    let patience = max(settings.headStart, .nanoseconds(Int64((status.roundTrip ?? 0) * 3e9)))
    return loop.scheduleTask(in: patience) { leg.lastHeard > asked }.futureResult
  }

  // MARK: What was seen

  /// Called from any loop.
  func note(_ leg: Leg, _ change: (inout LegSample) -> Void) {
    state.withLockedValue { change(&$0.pending[leg.index]) }
  }

  /// An attempt failed by the member's fault; called from any loop.
  ///
  /// One failure may be heard of twice, from the member and from the session that waited for it.
  func failed(_ leg: Leg, _ reason: String) {
    guard leg.noteFailure(reason) else { return }
    metrics.failed(leg.index)
    note(leg) { sample in
      // What was heard before it proves nothing any more.
      sample.isHeard = false
      sample.failures.append(reason)
    }
    leg.releaseRaces()
    home.execute { self.tick() }
    if !leg.hasServer { forgive(leg) }
  }

  /// Nobody can be asked whether a member without a server of its own works again: it is tried by use.
  private func forgive(_ leg: Leg) {
    home.scheduleTask(in: .seconds(30)) { [weak self] in self?.note(leg) { $0.isHeard = true } }
  }

  /// Takes what was seen to the choice; on the home loop.
  func tick() {
    let time = Date().timeIntervalSince1970
    let (decision, before, after) = state.withLockedValue { state in
      let sample = PathSample(time: time, legs: state.pending)
      state.pending = Array(repeating: LegSample(), count: legs.count)
      let before = state.choice.statuses(at: time).map(\.condition)
      let decision = state.choice.take(sample)
      parts.trace?.append(sample)
      if let decision {
        state.decisions.prepend(decision)
        if state.decisions.count > Self.decisionsKept { state.decisions.removeLast() }
      }
      let after = state.choice.statuses(at: time)
      let isCalm = after.allSatisfy { $0.condition == .low }
      state.calmSince = isCalm ? state.calmSince ?? .now() : nil
      return (decision, before, after)
    }
    for leg in legs where after[leg.index].condition == .down && before[leg.index] != .down {
      leg.breakYoung(MemberLost(member: leg.member.name, reason: leg.lastFailure ?? "it does not answer"))
    }
    tellHealth(after)
    metrics.record(after, legs)
    if let decision { tell(decision) }
  }

  private func tellHealth(_ statuses: [PathStatus]) {
    if statuses.allSatisfy({ $0.condition == .down }) {
      parts.health.failed(OpenError(.hostUnreachable, "no member of '\(parts.name)' can be reached"))
    } else if legs.contains(where: { $0.lastHeard > .uptimeNanoseconds(0) }) {
      parts.health.succeeded()
    }
  }

  private func tell(_ decision: Decision) {
    let isChange = decision.chosen != decision.previous
    if isChange {
      metrics.chose(parts.members.firstIndex { $0.name == decision.chosen }, insteadOf: decision.previous)
    }
    parts.events?.publish(.transportDecided(parts.name, decision))
    parts.logger.log(
      level: isChange ? .info : .debug,
      isChange ? "transport chose" : "transport kept its choice",
      metadata: [
        "chosen": "\(decision.chosen)", "previous": "\(decision.previous ?? "-")",
        "diagnosis": "\(decision.diagnosis)", "reason": "\(decision.reason)",
      ]
    )
  }

  // MARK: Measuring

  /// Whether sessions run, or ran a moment ago.
  var isBusy: Bool {
    let used = NIODeadline.uptimeNanoseconds(lastUsed.load(ordering: .relaxed))
    return used + Self.busyFor > .now() || legs.contains { $0.sessions.load(ordering: .relaxed) > 0 }
  }

  private func noteUse() {
    lastUsed.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed)
  }

  /// Whether all members have lost little for a while. A change is seen first on the one that carries the traffic.
  var isCalm: Bool {
    state.withLockedValue { $0.calmSince }.map { $0 + Self.calmFor < .now() } ?? false
  }

  /// Whether enough packets were seen to tell what the member loses; called from any loop.
  func isKnown(_ leg: Leg) -> Bool {
    statuses[leg.index].condition != .unknown
  }

  private func query(_ leg: Leg) {
    // One that spoke a moment ago need not be asked.
    guard leg.lastHeard + .milliseconds(200) < .now() else { return }
    home.execute { self.monitors.withLockedValue { $0 }?.value[leg.index].queryNow() }
  }

  private func start() {
    let isFirst = state.withLockedValue { state in
      defer { state.isStarted = true }
      return !state.isStarted && !state.isShutDown
    }
    guard isFirst else { return }
    let watches = legs.map { leg in
      leg.member.health.watch { [weak self] error in self?.failed(leg, error.message) }
    }
    state.withLockedValue { $0.watches = watches }
    home.execute {
      let budget = SharedProbeBudget(
        ProbeBudget(idle: self.settings.idleProbe, busy: self.settings.busyProbe)
      )
      let monitors = self.legs.map { LegMonitor($0, group: self, budget: budget, on: self.home) }
      self.monitors.withLockedValue { $0 = NIOLoopBound(monitors, eventLoop: self.home) }
      monitors.forEach { $0.start() }
      self.scheduleTick()
    }
  }

  private func scheduleTick() {
    home.scheduleTask(in: isBusy ? .seconds(1) : .seconds(5)) { [weak self] in
      guard let self, !state.withLockedValue({ $0.isShutDown }) else { return }
      tick()
      scheduleTick()
    }
  }

  /// Ends the control streams; sessions go on.
  func shutDown() async {
    let watches = state.withLockedValue { state in
      state.isShutDown = true
      return state.watches
    }
    for (leg, watch) in zip(legs, watches) { leg.member.health.unwatch(watch) }
    // Fails only where the loop is gone, and the monitors with it.
    try? await home.submit {
      let monitors = self.monitors.withLockedValue { monitors in
        defer { monitors = nil }
        return monitors
      }
      monitors?.value.forEach { $0.stop() }
    }.get()
    guard let trace = parts.trace else { return }
    // It waits for the disk, which neither an event loop nor a task may.
    await withCheckedContinuation { done in
      DispatchQueue.global().async {
        trace.close()
        done.resume()
      }
    }
  }

  // MARK: What others may see

  /// See `ChoosingTransport.decisions`.
  func decisions(limit: Int) -> [Decision] {
    state.withLockedValue { Array($0.decisions.prefix(max(0, limit))) }
  }

  private var statuses: [PathStatus] {
    state.withLockedValue { $0.choice.statuses(at: Date().timeIntervalSince1970) }
  }

  /// See `ChoosingTransport.paths`.
  var paths: [PathStatus] {
    let (statuses, first) = state.withLockedValue {
      ($0.choice.statuses(at: Date().timeIntervalSince1970), $0.choice.order.first)
    }
    return zip(legs, statuses).map { leg, status in
      var status = status
      status.isChosen = leg.index == first
      status.opened = leg.opened.load(ordering: .relaxed)
      status.failed = leg.failed.load(ordering: .relaxed)
      status.lastFailure = leg.lastFailure
      status.sessions = leg.sessions.load(ordering: .relaxed)
      status.reports = leg.reports
      status.probeBytes = leg.probeBytes.load(ordering: .relaxed)
      return status
    }
  }
}

extension TimeAmount {
  var seconds: Double { Double(nanoseconds) / 1e9 }
}
