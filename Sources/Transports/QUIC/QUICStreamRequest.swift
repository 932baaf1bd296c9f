import MagicalaneCore
import NIOCore

/// Somebody who waits for a stream, until its deadline and no longer. All on one event loop.
final class QUICStreamRequest {
  /// How long a request waits while one attempt to reach the server after the other fails.
  static let patience = TimeAmount.seconds(2)

  private(set) var isDone = false
  /// From now on the next failed attempt is the last for this request.
  let patienceEnd = NIODeadline.now() + QUICStreamRequest.patience
  private let promise: EventLoopPromise<any Channel>
  private var timer: Scheduled<Void>?
  private var lastError: OpenError?

  init(deadline: NIODeadline, on loop: any EventLoop) {
    promise = loop.makePromise()
    timer = loop.assumeIsolated().scheduleTask(deadline: deadline) {
      self.fail(self.lastError ?? OpenError(.timedOut, "the tunnel's server gave no stream in time"))
    }
  }

  var future: EventLoopFuture<any Channel> { promise.futureResult }

  func succeed(_ channel: any Channel) {
    guard finish() else { return channel.close(promise: nil) }
    promise.succeed(channel)
  }

  func fail(_ error: any Error) {
    if finish() { promise.fail(OpenError(quic: error)) }
  }

  /// An attempt failed; there may be others.
  ///
  /// - Returns: whether the request goes on waiting.
  func attemptFailed(_ error: OpenError, isFinal: Bool) -> Bool {
    lastError = error
    if isFinal || NIODeadline.now() >= patienceEnd { fail(error) }
    return !isDone
  }

  private func finish() -> Bool {
    guard !isDone else { return false }
    isDone = true
    timer?.cancel()
    return true
  }
}

extension OpenError {
  /// What an error of a QUIC connection means to somebody who wants a stream.
  init(quic error: any Error) {
    switch error {
    case let error as QUICConnectionError:
      let kind: Kind =
        switch error {
        case .handshakeTimeout, .idleTimeout: .timedOut
        case .socket(let cause, _): cause
        case .closedByPeer(code: 2, isApplication: false): .unavailable
        default: .failed
        }
      self.init(kind, "no tunnel to the server: \(error)", cause: error)
    case let error as QUICStreamError:
      self.init(.failed, "no stream to the server: \(error)", cause: error)
    default:
      self.init(error)
    }
  }
}
