import Foundation
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// What others may know of a live session: made when it is admitted, filled in as it goes.
///
/// Its counters are written by the session's event loop alone and read from any thread without a lock, so that
/// to count a batch costs an ordinary store and to look at sessions costs their loops nothing.
final class SessionRecord: Sendable {
  let id: Session.ID
  let frontend: String
  let transport: String
  let client: SocketAddress?
  let started: Date
  let bytesUp = ByteCounter()
  let bytesDown = ByteCounter()
  private let progress: NIOLockedValueBox<Progress>

  private struct Progress {
    var state = SessionInfo.State.handshake
    var target: Target?
    var user: String?
    var copy = SessionInfo.CopyMode.buffer
    var carrier: SessionCarrier?
  }

  init(id: Session.ID, frontend: String, transport: String, client: SocketAddress?, started: Date = .now) {
    self.id = id
    self.frontend = frontend
    self.transport = transport
    self.client = client
    self.started = started
    progress = NIOLockedValueBox(Progress())
  }

  /// The request came.
  ///
  /// - Parameter carrier: says which member carries the session; nil where the transport has none.
  func opening(_ target: Target, user: String?, carrier: SessionCarrier? = nil) {
    progress.withLockedValue {
      $0 = Progress(state: .opening, target: target, user: user, carrier: carrier)
    }
  }

  /// The client asked for reports.
  func reporting(user: String?) {
    progress.withLockedValue { $0 = Progress(state: .reporting, user: user) }
  }

  /// The streams are joined.
  func opened() {
    progress.withLockedValue { $0.state = .open }
  }

  /// The kernel moves the bytes from now on.
  func spliced() {
    progress.withLockedValue { $0.copy = .splice }
  }

  var info: SessionInfo {
    let progress = progress.withLockedValue { $0 }
    return SessionInfo(
      id: id,
      state: progress.state,
      frontend: frontend,
      transport: transport,
      member: progress.carrier?.member,
      client: client,
      user: progress.user,
      target: progress.target,
      started: started,
      bytesUp: bytesUp.value,
      bytesDown: bytesDown.value,
      copy: progress.copy
    )
  }
}

/// A count with one writer, which any thread may read.
final class ByteCounter: Sendable {
  private let count = Atomic<UInt64>(0)

  var value: UInt64 { count.load(ordering: .relaxed) }

  /// Called by the one writer: no read-modify-write is needed then.
  func add(_ bytes: Int) {
    count.store(value &+ UInt64(bytes), ordering: .relaxed)
  }
}

/// One live session at one moment.
public struct SessionInfo: Sendable {
  /// How far it is.
  public enum State: String, Sendable, CaseIterable, Codable {
    /// The frontend speaks with the client; no target is known.
    case handshake
    /// The transport opens a stream to the target.
    case opening
    /// Bytes flow.
    case open
    /// It has no target: the client asks what this end counted of a leg (docs/path-reports.md).
    case reporting
  }

  /// How bytes get from one stream to the other.
  public enum CopyMode: String, Sendable, CaseIterable, Codable {
    /// Through buffers of the program.
    case buffer
    /// From socket to socket within the kernel.
    case splice
  }

  /// Counts up from 1 while the program runs.
  public var id: UInt64
  /// How far it is.
  public var state: State
  /// The name of the frontend that accepted it.
  public var frontend: String
  /// The name of the transport that carries it.
  public var transport: String
  /// The member that the transport chose for it; nil where it has none to choose from, or has not chosen.
  public var member: String?
  /// The client's address; nil where the stream has none.
  public var client: SocketAddress?
  /// The name that the client gave and proved; nil where none was asked for.
  public var user: String?
  /// What the client asked for; nil before its request.
  public var target: Target?
  /// When the stream was accepted.
  public var started: Date
  /// From the client to the target.
  public var bytesUp: UInt64
  /// From the target to the client.
  public var bytesDown: UInt64
  /// How bytes are moved.
  public var copy: CopyMode
}

/// What of a session was read from one stream and not yet taken by the other.
public struct WaitingBytes: Sendable, Equatable {
  /// On the way to the target.
  public var up: Int
  /// On the way to the client.
  public var down: Int

  /// Of a session that is not open.
  public static let zero = WaitingBytes(up: 0, down: 0)
}
