import CMicrohttpd
import Dispatch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Accepts connections from one listening socket, on the engine's queue.
///
/// The library could accept by itself, but where the program has no file descriptors left it would try again
/// at once, for ever. A door rests instead: for a moment when the system is out of something, and until a
/// connection closes when the daemon has as many as it may.
final class ListeningDoor: @unchecked Sendable {  // only on the engine's queue
  /// Connections accepted in one go; other work on the queue comes in between.
  static let batch = 16
  private static let rest = DispatchTimeInterval.milliseconds(250)

  private let socket: AdminSocket
  private unowned let engine: DaemonEngine
  private let source: any DispatchSourceRead
  private var isResting = false
  private var isClosed = false

  init(_ socket: AdminSocket, engine: DaemonEngine) {
    self.socket = socket
    self.engine = engine
    source = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor, queue: engine.queue)
  }

  func open() {
    source.setEventHandler { [weak self] in self?.accept() }
    source.resume()
  }

  /// Stops listening; the group is left when the socket is closed.
  func close(_ group: DispatchGroup) {
    isClosed = true
    group.enter()
    let socket = socket
    source.setCancelHandler {
      socket.close()
      group.leave()
    }
    source.cancel()
    // A cancelled source says so only when it is not suspended.
    if isResting { source.resume() }
  }

  /// A connection has closed, or the rest is over.
  func wakeUp() {
    guard isResting, !isClosed, engine.hasRoom else { return }
    isResting = false
    source.resume()
  }

  private func rest(for time: DispatchTimeInterval?) {
    isResting = true
    source.suspend()
    guard let time else { return }
    engine.queue.asyncAfter(deadline: .now() + time) { [weak self] in self?.wakeUp() }
  }

  private func accept() {
    for _ in 0..<Self.batch where !isClosed {
      guard engine.hasRoom else { return rest(for: nil) }
      guard acceptOne() else { return }
    }
  }

  /// - Returns: Whether there may be another one.
  private func acceptOne() -> Bool {
    var address = sockaddr_storage()
    return withUnsafeMutableBytes(of: &address) { bytes in
      // sockaddr_storage is large enough and aligned for every kind of address, and not empty.
      guard let address = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return false }
      var length = socklen_t(bytes.count)
      let accepted = cmicrohttpd_accept(socket.descriptor, address, &length)
      guard accepted < 0 else {
        engine.handOver(accepted, address, length)
        return true
      }
      return goesOn(after: errno)
    }
  }

  private func goesOn(after error: Int32) -> Bool {
    switch error {
    case EAGAIN: return false
    // What went wrong with one connection (accept(2)) is no reason to leave the next one waiting.
    case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT: return true
    default:
      engine.logger.debug(
        "cannot accept now",
        metadata: ["reason": "\(String(cString: strerror(error)))"]
      )
      rest(for: Self.rest)
      return false
    }
  }
}
