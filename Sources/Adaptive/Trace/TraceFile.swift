import Dispatch
import Foundation
import NIOConcurrencyHelpers

/// Writes a trace to a file of bounded size, on a thread of its own.
///
/// A file that is there is added to, behind a new header. One that would grow beyond the limit is renamed to end
/// in `.1`, in place of an older one, and a new one is begun: so both together take twice the limit at most.
public final class TraceFile: Sendable {
  private let queue = DispatchQueue(label: "magicalane.trace", qos: .utility)
  // `queue` is serial and alone touches the value, so it is never used by two threads at once.
  private nonisolated(unsafe) let output: TraceOutput
  private let waiting = NIOLockedValueBox(0)
  /// Samples that may wait for a slow disk; more are left out.
  private static let room = 256

  /// - Parameters:
  ///   - path: of the file; its directory has to be there.
  ///   - limit: most bytes of one file.
  ///   - onError: called on the writer's thread when writing begins to fail, once until it succeeds again.
  public init(
    path: String,
    limit: Int,
    header: TraceHeader,
    onError: @escaping @Sendable (_ reason: String) -> Void
  ) {
    output = TraceOutput(path: path, limit: limit, header: header, onError: onError)
  }

  /// Adds a sample; returns at once, on any thread.
  public func append(_ sample: PathSample) {
    let hasRoom = waiting.withLockedValue { waiting in
      guard waiting < Self.room else { return false }
      waiting += 1
      return true
    }
    guard hasRoom else { return }
    queue.async { [self] in
      output.write(sample)
      waiting.withLockedValue { $0 -= 1 }
    }
  }

  /// Waits until all that was given is written, then closes the file. Not to be called on an event loop.
  public func close() {
    queue.sync { output.close() }
  }
}
