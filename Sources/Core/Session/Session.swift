import Logging
import NIOCore

/// One accepted stream, its request, the stream opened for it, and the duplex between them.
///
///     handshake ──request──► opening ──opened──► joined ──► ended
///         ├──────────────────────┴── refused, failed ────────┤
///         └──request for reports──► reporting ───────────────┘
///
/// Not thread-safe: a session lives on one event loop. `Sessions` holds every one of them.
final class Session {
  typealias ID = UInt64

  private enum State {
    case handshake
    case opening
    case joined(Duplex)
    /// No target: the client asks what this end counted.
    case reporting(PathReportServer)
    case ended
  }

  let id: ID
  let client: any Channel
  let route: Route
  /// For the handshake, then for the stream to the target, then for the duplex.
  let clock: SessionClock
  private let sessions: Sessions
  private let record: SessionRecord
  private let started = NIODeadline.now()
  private var asked = NIODeadline.now()
  private var state = State.handshake
  /// The kernel's counts of the client's socket are wanted until it closes.
  private var isMeasured = false

  /// The shortest time for which a client that reads reports may say nothing.
  private static let shortestReportTimeout = TimeAmount.minutes(2)
  /// Kept where the transport may be asked again.
  private var request: ConnectRequest?
  /// Who waits for the stream that was asked for.
  private var whenOpened: ((Result<any Channel, OpenError>) -> Void)?

  init(_ record: SessionRecord, client: any Channel, route: Route, sessions: Sessions) {
    self.id = record.id
    self.record = record
    self.client = client
    self.route = route
    clock = SessionClock(on: client.eventLoop)
    self.sessions = sessions
    route.metrics.started()
  }

  /// Opens the stream that the client asked for.
  ///
  /// - Parameters:
  ///   - leg: with which the client's stream is counted; nil where the client names none.
  ///   - whenOpened: called once, on the session's loop and perhaps at once, with a channel that reads nothing yet.
  func open(
    _ target: Target,
    user: String?,
    leg: LegID?,
    whenOpened: @escaping (Result<any Channel, OpenError>) -> Void
  ) {
    state = .opening
    asked = .now()
    let carrier = route.choosing.map { _ in SessionCarrier() }
    record.opening(target, user: user, carrier: carrier)
    let policy = route.policy(for: client)
    guard policy.permits(target) else {
      let reason = "\(target) is local to this host, which requests from other hosts may not reach"
      return whenOpened(.failure(OpenError(.notAllowed, reason)))
    }
    if let reason = sessions.reasonToRefuse {
      return whenOpened(.failure(OpenError(.unavailable, reason)))
    }
    if let leg { isMeasured = sessions.ledgers.attach(client, to: leg, of: user) != nil }
    let loop = client.eventLoop
    let deadline = loop.now + route.connectTimeout
    self.whenOpened = whenOpened
    // A transport keeps the deadline itself; this holds for one that does not.
    clock.set(deadline + .milliseconds(100)) {
      self.answer(.failure(OpenError(.timedOut, "not opened in time")))
    }
    let request = ConnectRequest(target: target, policy: policy, deadline: deadline, carrier: carrier)
    if route.choosing != nil { self.request = request }
    route.transport.connect(request, on: loop).hop(to: loop).assumeIsolated().whenComplete(connected)
  }

  /// The transport is done; a channel that comes too late, or on another loop, is closed.
  private func connected(_ result: Result<any Channel, any Error>) {
    switch result {
    case .success(let channel) where channel.eventLoop !== client.eventLoop:
      channel.close(promise: nil)
      answer(.failure(OpenError(.failed, "the transport opened a stream on another event loop")))
    case .success(let channel) where whenOpened == nil: channel.close(promise: nil)
    default: answer(result.mapError { OpenError($0) })
    }
  }

  private func answer(_ result: Result<any Channel, OpenError>) {
    let whenOpened = whenOpened
    self.whenOpened = nil
    clock.clear()
    whenOpened?(result)
  }

  /// Begins to tell the client what this end counted of a leg.
  ///
  /// It holds a place among the sessions, and ends as soon as somebody waits for those to end.
  ///
  /// - Returns: what is to be the last handler of the client's pipeline.
  func report(_ leg: LegID, user: String?) throws(OpenError) -> PathReportServer {
    state = .opening
    record.reporting(user: user)
    if let reason = sessions.reasonToRefuse(report: record) { throw OpenError(.unavailable, reason) }
    guard let ledger = sessions.ledgers.attach(client, to: leg, of: user) else {
      throw OpenError(.unavailable, "too many legs are counted already")
    }
    let silence = max(route.idleTimeout, Session.shortestReportTimeout)
    let server = PathReportServer(ledger, idleTimeout: silence) { self.ended(.reported(reason: $0)) }
    state = .reporting(server)
    logger.debug("control stream opened", metadata: metadata)
    return server
  }

  /// Joins the client with the opened stream; from here on the duplex closes both.
  func join(_ opened: any Channel) {
    do {
      record.opened()
      route.metrics.opened(after: .now() - asked)
      sessions.opened(record)
      logger.debug("session opened", metadata: metadata)
      let counters = Duplex.Counters(up: record.bytesUp, down: record.bytesDown)
      let duplex = try Duplex.join(
        client: client,
        target: opened,
        idleTimeout: route.idleTimeout,
        counters: counters,
        metrics: route.metrics,
        memory: sessions.memory,
        clock: clock,
        splice: (isMeasured ? nil : route.splicePipe).map { capacity in
          SplicePlan(pipeCapacity: capacity) { [record] in record.spliced() }
        },
        replacement: replacementPlan
      ) {
        self.ended(.joined($0))
      }
      // The duplex may have ended already: a stream can break while it is being joined.
      if case .opening = state { state = .joined(duplex) }
    } catch {
      opened.close(promise: nil)
      client.close(promise: nil)
      ended(.failed(OpenError(error)))
    }
  }

  /// How the stream to the target is opened again; nil where the transport has no other way.
  private var replacementPlan: ReplacementPlan? {
    guard let choosing = route.choosing, choosing.replayLimit > 0, let request else { return nil }
    let (loop, connectTimeout) = (client.eventLoop, route.connectTimeout)
    return ReplacementPlan(limit: choosing.replayLimit) { broken in
      var request = request
      request.deadline = .now() + connectTimeout
      return choosing.reopen(request, insteadOf: broken, on: loop)?
        .keepingDeadline(request.deadline, on: loop)
    } onReplace: { error in
      self.openedAgain(after: error)
    }
  }

  private func openedAgain(after error: any Error) {
    route.metrics.reopened()
    var metadata = metadata
    metadata["reason"] = "\(error)"
    logger.debug("session opened again", metadata: metadata)
  }

  /// Breaks the session off; its peers see an error.
  func abort(reason: String) {
    switch state {
    case .handshake, .opening:
      ended(.aborted(reason: reason))
      client.abort(reason: reason)
    case .joined(let duplex): duplex.abort(reason: reason)
    case .reporting(let server): server.finish(reason)
    case .ended: ()
    }
  }

  /// Breaks the session off where no request has come yet.
  func abortUnlessRequested(reason: String) {
    if case .handshake = state { abort(reason: reason) }
  }

  /// Ends the session where it only tells what this end counted.
  func endReports(reason: String) {
    if case .reporting(let server) = state { server.finish(reason) }
  }

  /// The session is over; what is said after the first time does not count.
  func ended(_ end: SessionEnd) {
    if case .ended = state { return }
    state = .ended
    clock.stop()
    whenOpened = nil
    route.metrics.finished(end.outcome, after: .now() - started)
    logger.debug("session ended", metadata: finalMetadata(end))
    sessions.ended(record, end)
  }

  /// What waits in its streams.
  var waiting: WaitingBytes {
    if case .joined(let duplex) = state { duplex.waiting } else { .zero }
  }

  private var logger: Logger { route.logger }

  private func finalMetadata(_ end: SessionEnd) -> Logger.Metadata {
    var metadata = metadata
    metadata["reason"] = "\(end)"
    if case .joined = end {
      metadata["up"] = "\(record.bytesUp.value)"
      metadata["down"] = "\(record.bytesDown.value)"
    }
    return metadata
  }

  /// Put together only where somebody reads the log.
  private var metadata: Logger.Metadata {
    var metadata: Logger.Metadata = [
      "session": "\(id)", "frontend": "\(route.frontendName)", "transport": "\(route.transportName)",
    ]
    let info = record.info
    metadata["member"] = info.member.map { "\($0)" }
    metadata["target"] = info.target.map { "\($0)" }
    metadata["user"] = info.user.map { "\($0)" }
    metadata["client"] = info.client.map { "\($0)" }
    return metadata
  }
}

extension EventLoopFuture where Value == any Channel {
  /// The same channel, or `timedOut` at the deadline; a channel that comes too late is closed.
  ///
  /// A transport keeps the deadline itself; this holds for one that does not.
  fileprivate func keepingDeadline(
    _ deadline: NIODeadline,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel> {
    let grace = deadline + .milliseconds(100)
    let kept = hop(to: loop).withDeadline(grace) { OpenError(.timedOut, "not opened in time") }
    return kept.flatMapThrowing { channel in
      guard channel.eventLoop === loop else {
        throw OpenError(.failed, "the transport opened a stream on another event loop")
      }
      return channel
    }.flatMapErrorThrowing { error in
      self.whenSuccess { $0.close(promise: nil) }
      throw OpenError(error)
    }
  }
}
