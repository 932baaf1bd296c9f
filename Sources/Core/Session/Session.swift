import Logging
import NIOCore

/// One accepted stream, its request, the stream opened for it, and the duplex between them.
///
///     handshake ──request──► opening ──opened──► joined ──► ended
///         └──────────────────────┴── refused, failed ────────┘
///
/// Not thread-safe: a session lives on one event loop. `Sessions` holds every one of them.
final class Session {
  typealias ID = UInt64

  private enum State {
    case handshake
    case opening
    case joined(Duplex)
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
  /// - Parameter whenOpened: called once, on the session's loop and perhaps at once, with a channel that reads
  ///   nothing yet.
  func open(
    _ target: Target,
    user: String?,
    whenOpened: @escaping (Result<any Channel, OpenError>) -> Void
  ) {
    state = .opening
    asked = .now()
    record.opening(target, user: user)
    let policy = route.policy(for: client)
    guard policy.permits(target) else {
      let reason = "\(target) is local to this host, which requests from other hosts may not reach"
      return whenOpened(.failure(OpenError(.notAllowed, reason)))
    }
    if let reason = sessions.reasonToRefuse {
      return whenOpened(.failure(OpenError(.unavailable, reason)))
    }
    let loop = client.eventLoop
    let deadline = loop.now + route.connectTimeout
    self.whenOpened = whenOpened
    // A transport keeps the deadline itself; this holds for one that does not.
    clock.set(deadline + .milliseconds(100)) {
      self.answer(.failure(OpenError(.timedOut, "not opened in time")))
    }
    let request = ConnectRequest(target: target, policy: policy, deadline: deadline)
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
        splice: route.splicePipe.map { capacity in
          SplicePlan(pipeCapacity: capacity) { [record] in record.spliced() }
        }
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

  /// Breaks the session off; its peers see an error.
  func abort(reason: String) {
    switch state {
    case .handshake, .opening:
      ended(.aborted(reason: reason))
      client.abort(reason: reason)
    case .joined(let duplex): duplex.abort(reason: reason)
    case .ended: ()
    }
  }

  /// Breaks the session off where no request has come yet.
  func abortUnlessRequested(reason: String) {
    if case .handshake = state { abort(reason: reason) }
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
    metadata["target"] = info.target.map { "\($0)" }
    metadata["user"] = info.user.map { "\($0)" }
    metadata["client"] = info.client.map { "\($0)" }
    return metadata
  }
}
