import Logging

/// An HTTP/1.1 server on threads of its own: libmicrohttpd with deadlines, limits and async handlers.
///
/// It owns the sockets and the library's daemon from `init` to `stop`.
final class HTTPDaemon: Sendable {
  private let engine: DaemonEngine
  private let grace: Duration

  /// Serves on listening sockets.
  ///
  /// - Parameters:
  ///   - sockets: From `AdminSocket.bind`; closed when the daemon stops.
  ///   - admit: Looks at each head before any body is read; an answer refuses the request. It runs on the
  ///     library's thread, which serves nothing else in the meantime.
  ///   - handler: Answers complete requests, in tasks.
  /// - Throws: `HTTPDaemonError` where the library does not start.
  init(
    sockets: [AdminSocket],
    limits: HTTPLimits = HTTPLimits(),
    logger: Logger,
    admit: @escaping @Sendable (AdminRequest) -> AdminResponse? = { _ in nil },
    handler: @escaping @Sendable (AdminRequest) async -> AdminResponse
  ) throws {
    grace = limits.grace
    engine = DaemonEngine(limits: limits, logger: logger, admit: admit, handler: handler)
    try engine.start(sockets)
  }

  /// Stops listening, ends streams, lets requests that are being answered finish for up to the grace time,
  /// and closes the rest. All of it is freed when this returns. Calling it again does no harm.
  func stop() async {
    await withCheckedContinuation { done in
      engine.stop(grace: grace) { done.resume() }
    }
  }

  /// Stops without grace, in the background: whoever lets go of the last reference must not wait.
  deinit {
    engine.stop(grace: .zero)
  }
}
