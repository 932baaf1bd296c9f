import DequeModule
import MagicalaneCore
import NIOCore

/// Keeps a control stream to one member's server, asks it what it saw, and notices when it does not answer.
///
///     idle ── start ──► opening ── agreed ──► asking ── silent, lost ──► waiting ──► opening
///                          │  └── knows no reports ──► lacking ── much later ──► opening
///                          └── failed ──► waiting, each time longer ──► opening
///
/// A query is a probe as well: one small packet each way on a leg that carries nothing else. All calls on the
/// group's home loop.
final class LegMonitor {
  private enum State {
    case idle
    case opening
    case asking(PathReportClient)
    case lacking
    case waiting
    case stopped
  }

  /// A query without an answer.
  private struct Query {
    var number: UInt64
    var sent: NIODeadline
    /// This end's counts then; nil where the query was sent to hear something alone.
    var counts: PathCounts?
  }

  private let leg: Leg
  /// It holds this monitor as well, until it shuts down.
  private let group: TransportGroup
  private let budget: SharedProbeBudget
  private let loop: any EventLoop
  private let pace: QueryPace
  private var state = State.idle
  /// Tells the callbacks of one attempt from those of an earlier one.
  private var attempt = 0
  private var failures = 0
  private var outstanding: Deque<Query> = []
  private var ledger = ReportLedger()
  private var lastQuery = NIODeadline.uptimeNanoseconds(0)
  private var lastCounted = NIODeadline.uptimeNanoseconds(0)
  private var packetsPerSecond = 0.0
  private var roundTrip: Double?

  init(_ leg: Leg, group: TransportGroup, budget: SharedProbeBudget, on loop: any EventLoop) {
    self.leg = leg
    self.group = group
    self.budget = budget
    self.loop = loop
    pace = QueryPace(idleBudget: group.settings.idleProbe, members: group.legs.count, cost: leg.queryCost)
  }

  func start() {
    guard case .idle = state, leg.member.transport is any TunnelTransport else { return }
    open()
    scheduleQuery()
  }

  func stop() {
    let last = state
    state = .stopped
    if case .asking(let client) = last { client.close() }
  }

  // MARK: The control stream

  private func open() {
    guard let tunnel = leg.member.transport as? any TunnelTransport else { return }
    state = .opening
    attempt += 1
    let attempt = attempt
    let begun = NIODeadline.now()
    let deadline = begun + group.settings.patience
    spend(leg.openingCost)
    tunnel.openStream(deadline: deadline, on: loop).hop(to: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .success(let channel): self.ask(on: channel, tunnel.credentials, attempt, begun, deadline)
      case .failure(let error): self.failed("\(OpenError(error))", attempt)
      }
    }
  }

  private func ask(
    on channel: any Channel,
    _ credentials: Credentials?,
    _ attempt: Int,
    _ begun: NIODeadline,
    _ deadline: NIODeadline
  ) {
    guard case .opening = state, self.attempt == attempt else { return channel.close(promise: nil) }
    var client: PathReportClient?
    let callbacks = PathReportClient.Callbacks(
      agreed: { [weak self] in
        guard let client else { return }
        self?.agreed(client, channel, attempt, after: .now() - begun)
      },
      report: { [weak self] in self?.reported($0) },
      ended: { [weak self] error in
        client = nil
        self?.ended(error, attempt, after: .now() - begun)
      }
    )
    let handler = PathReportClient(
      leg: leg.id,
      credentials: credentials,
      deadline: deadline,
      callbacks: callbacks
    )
    client = handler
    leg.ledger.attach(channel)
    do {
      try channel.pipeline.syncOperations.addHandler(handler)
    } catch {
      channel.close(promise: nil)
      failed("\(error)", attempt)
    }
  }

  private func agreed(
    _ client: PathReportClient,
    _ channel: any Channel,
    _ attempt: Int,
    after time: TimeAmount
  ) {
    guard case .opening = state, self.attempt == attempt else { return client.close() }
    state = .asking(client)
    answered(after: time)
    leg.reports = .reporting
    queryNow()
    guard group.settings.measuresOpening else { return }
    loop.assumeIsolated().scheduleTask(in: group.isBusy ? .minutes(1) : .minutes(5)) {
      if case .asking(let current) = self.state, current === client { self.openAnew(client) }
    }
  }

  /// Opens another control stream in this one's place, to see how long it takes.
  private func openAnew(_ client: PathReportClient) {
    state = .idle
    outstanding = []
    client.close()
    open()
  }

  private func ended(_ error: PathReportError, _ attempt: Int, after time: TimeAmount) {
    guard self.attempt == attempt, isLive else { return }
    if case .lacking = error {
      state = .lacking
      answered(after: time)
      leg.reports = .lacking
      reopen(in: .minutes(5))
    } else {
      failed("\(error)", attempt)
    }
  }

  private var isLive: Bool {
    switch state {
    case .opening, .asking: true
    case .idle, .lacking, .waiting, .stopped: false
    }
  }

  private func answered(after time: TimeAmount) {
    failures = 0
    leg.heard()
    group.note(leg) { sample in
      sample.isHeard = true
      sample.opens.append(time.seconds)
    }
  }

  private func failed(_ reason: String, _ attempt: Int) {
    guard self.attempt == attempt, isLive else { return }
    state = .waiting
    leg.reports = .none
    outstanding = []
    failures += 1
    group.failed(leg, reason)
    reopen(in: pause)
  }

  /// Doubles with each failure, from 1 s to 30 s, and varies by a quarter.
  private var pause: TimeAmount {
    let longest = min(30_000, 1000 << min(failures - 1, 5))
    return .milliseconds(.random(in: Int64(longest * 3 / 4)...Int64(longest)))
  }

  private func reopen(in time: TimeAmount) {
    loop.assumeIsolated().scheduleTask(in: time) {
      switch self.state {
      case .waiting, .lacking: self.open()
      case .idle, .opening, .asking, .stopped: ()
      }
    }
  }

  // MARK: Queries

  private func scheduleQuery() {
    if case .stopped = state { return }
    let interval = pace.interval(
      isBusy: group.isBusy,
      isKnown: group.isKnown(leg),
      isCalm: group.isCalm,
      packetsPerSecond: packetsPerSecond
    )
    loop.assumeIsolated().scheduleTask(in: interval) { [weak self] in
      guard let self else { return }
      checkStall()
      query()
      scheduleQuery()
    }
  }

  /// Asks at once, for somebody waits to know whether the server is there.
  func queryNow() {
    if lastQuery + .milliseconds(100) < .now() { query() }
  }

  /// Asks whatever was asked before and whatever it costs, for a session hangs on the answer.
  func queryUrgently() {
    guard case .asking(let client) = state else { return }
    spend(leg.queryCost)
    send(client, nil)
  }

  private func query() {
    guard case .asking(let client) = state,
      budget.pay(leg.queryCost, isBusy: group.isBusy)
    else { return }
    lastQuery = .now()
    spend(leg.queryCost)
    // To count means to ask all loops; once a second is enough.
    guard lastCounted + .milliseconds(900) < lastQuery else { return send(client, nil) }
    lastCounted = lastQuery
    leg.ledger.counts(on: loop).assumeIsolated().whenSuccess { self.send(client, $0) }
  }

  private func send(_ client: PathReportClient, _ counts: PathCounts?) {
    guard let number = client.query() else { return }
    outstanding.append(Query(number: number, sent: .now(), counts: counts))
  }

  private func spend(_ bytes: Int) {
    leg.probeBytes.add(UInt64(bytes), ordering: .relaxed)
  }

  /// A server that answers nothing for so long is not there, whatever its connection says.
  private func checkStall() {
    guard case .asking(let client) = state, let oldest = outstanding.first else { return }
    let patience = max(group.settings.stall, .nanoseconds(Int64((roundTrip ?? 0) * 4e9)))
    let heard = max(oldest.sent, leg.lastHeard)
    guard heard + patience < .now() else { return }
    let attempt = attempt
    failed("nothing was heard for \(patience.nanoseconds / 1_000_000) ms", attempt)
    client.close()
  }

  private func reported(_ report: PathReport) {
    leg.heard()
    while let query = outstanding.first, query.number <= report.number {
      outstanding.removeFirst()
      if query.number == report.number { take(report, of: query) }
    }
  }

  private func take(_ report: PathReport, of query: Query) {
    let time = NIODeadline.now() - query.sent
    guard let asked = query.counts else { return group.note(leg) { $0.isHeard = true } }
    leg.ledger.counts(on: loop).assumeIsolated().whenSuccess { answered in
      let packets = self.ledger.take(asked: asked, far: report.counts, answered: answered)
      self.note(packets, answered.roundTrip, queryTime: time)
    }
  }

  private func note(
    _ packets: (up: LegSample.Packets?, down: LegSample.Packets?),
    _ measured: PathCounts.RoundTrip?,
    queryTime: TimeAmount
  ) {
    let seen = max(packets.up?.sent ?? 0, packets.down?.sent ?? 0)
    packetsPerSecond += (Double(seen) - packetsPerSecond) / 2
    let roundTrip = measured.map { Double($0.smoothed) / 1e9 } ?? queryTime.seconds
    self.roundTrip = roundTrip
    group.note(leg) { sample in
      sample.isHeard = true
      sample.up += packets.up
      sample.down += packets.down
      sample.roundTrip = roundTrip
      sample.variation = measured.map { Double($0.variation) / 1e9 }
    }
  }
}

extension LegSample.Packets? {
  /// Adds what was learned, where something was.
  fileprivate static func += (sum: inout LegSample.Packets?, more: LegSample.Packets?) {
    guard let more else { return }
    sum = LegSample.Packets(sent: (sum?.sent ?? 0) + more.sent, lost: (sum?.lost ?? 0) + more.lost)
  }
}

extension Leg {
  /// Bytes on the wire of one query and its report.
  fileprivate var queryCost: Int {
    member.bearsLoss ? PathReportCost.overQUIC : PathReportCost.overTCP
  }

  /// Bytes on the wire of a new control stream.
  fileprivate var openingCost: Int {
    member.bearsLoss ? PathReportCost.openingOverQUIC : PathReportCost.openingOverTCP
  }
}

extension GroupSettings {
  /// How long a control stream may take to open.
  fileprivate var patience: TimeAmount { .nanoseconds(max(stall.nanoseconds * 2, 5_000_000_000)) }
}
