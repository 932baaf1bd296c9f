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
  private let sessions: Sessions
  private let record: SessionRecord
  private let started = NIODeadline.now()
  private var asked = NIODeadline.now()
  private var state = State.handshake

  init(_ record: SessionRecord, client: any Channel, route: Route, sessions: Sessions) {
    self.id = record.id
    self.record = record
    self.client = client
    self.route = route
    self.sessions = sessions
    route.metrics.started()
  }

  /// Opens the stream that the client asked for.
  ///
  /// - Returns: on the session's loop, a channel that reads nothing yet, or fails with `OpenError`.
  func open(_ target: Target, user: String?) -> EventLoopFuture<any Channel> {
    state = .opening
    asked = .now()
    record.opening(target, user: user)
    let loop = client.eventLoop
    let policy = route.policy(for: client)
    guard policy.permits(target) else {
      return loop.makeFailedFuture(
        OpenError(
          .notAllowed,
          "\(target) is local to this host, which requests from other hosts may not reach"
        )
      )
    }
    if let reason = sessions.reasonToRefuse {
      return loop.makeFailedFuture(OpenError(.unavailable, reason))
    }
    let request = ConnectRequest(target: target, policy: policy, deadline: .now() + route.connectTimeout)
    return route.transport.connect(request, on: loop).keepingDeadline(request.deadline, on: loop)
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

extension EventLoopFuture where Value == any Channel {
  /// The same channel, or `timedOut` at the deadline; a channel that comes too late is closed.
  ///
  /// A transport keeps the deadline itself; this holds for one that does not.
  fileprivate func keepingDeadline(_ deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<
    any Channel
  > {
    let grace = deadline + .milliseconds(100)
    let kept = hop(to: loop).withDeadline(grace) { OpenError(.timedOut, "not opened in time") }
    let opened = self
    return kept.flatMapThrowing { channel in
      guard channel.eventLoop === loop else {
        channel.close(promise: nil)
        throw OpenError(.failed, "the transport opened a stream on another event loop")
      }
      return channel
    }.flatMapErrorThrowing { error in
      opened.whenSuccess { $0.close(promise: nil) }
      throw OpenError(error)
    }
  }
}
