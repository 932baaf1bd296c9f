import Foundation
import NIOConcurrencyHelpers

/// Something that happened to the program, for those who watch it.
public struct Event: Sendable {
  /// What happened.
  public enum Kind: Sendable {
    /// The streams of a session were joined.
    case sessionOpened(SessionInfo)
    /// A session that had asked for a target is over.
    case sessionClosed(SessionInfo, reason: String)
    /// Another config runs.
    case configApplied(ConfigChange)
    /// A config was refused; the one before goes on.
    case configRefused(origin: ConfigOrigin, reason: String)
    /// A stream to the transport's server could be opened, for the first time or again.
    case transportUp(String)
    /// The transport's server could not be reached.
    case transportDown(String, reason: String)
    /// A choosing transport chose a member, or kept to one for a new reason.
    case transportDecided(String, Decision)
  }

  /// Counts up by one from 1 while the program runs.
  public var id: UInt64
  /// When it happened.
  public var time: Date
  /// What happened.
  public var kind: Kind
}

/// The latest events, in order. Who falls behind by more than it holds misses some, and is told how many.
///
/// Safe from any thread, event loops included: a lock is held for as long as it takes to store one event.
public final class EventLog: Sendable {
  private struct State {
    var ring: [Event] = []
    var lastID: UInt64 = 0
    var wakers: [WakeToken: @Sendable () -> Void] = [:]
    var lastToken: WakeToken = 0
  }

  /// Names one call of `wake(after:_:)`.
  public typealias WakeToken = UInt64

  private let capacity: Int
  private let state = NIOLockedValueBox(State())

  /// - Parameter capacity: how many events are kept.
  public init(capacity: Int = 4096) {
    self.capacity = max(1, capacity)
  }

  /// The id of the latest event; 0 before the first.
  public var lastID: UInt64 { state.withLockedValue { $0.lastID } }

  /// Adds an event, and wakes those who wait for it.
  public func publish(_ kind: Event.Kind) {
    let wakers = state.withLockedValue { state -> [@Sendable () -> Void] in
      state.lastID += 1
      let event = Event(id: state.lastID, time: .now, kind: kind)
      let slot = Int((state.lastID - 1) % UInt64(capacity))
      if slot < state.ring.count { state.ring[slot] = event } else { state.ring.append(event) }
      guard !state.wakers.isEmpty else { return [] }
      defer { state.wakers = [:] }
      return Array(state.wakers.values)
    }
    for wake in wakers { wake() }
  }

  /// The events behind an id, oldest first.
  ///
  /// - Parameter limit: at most so many; the rest comes with the next call.
  /// - Returns: `missed` is the number of events between `id` and the first that is still there.
  public func events(after id: UInt64, limit: Int) -> (events: [Event], missed: UInt64) {
    state.withLockedValue { state in
      guard id < state.lastID else { return ([], 0) }
      let oldest = state.lastID - UInt64(state.ring.count) + 1
      let first = max(id + 1, oldest)
      let last = min(state.lastID, first + UInt64(max(1, limit)) - 1)
      let events = (first...last).map { state.ring[Int(($0 - 1) % UInt64(capacity))] }
      return (events, first - (id + 1))
    }
  }

  /// Calls `wake` once when there is an event behind `id`, on the thread that publishes it.
  ///
  /// - Returns: nil where there is one already; `wake` is not called then.
  public func wake(after id: UInt64, _ wake: @escaping @Sendable () -> Void) -> WakeToken? {
    state.withLockedValue { state in
      guard id >= state.lastID else { return nil }
      state.lastToken += 1
      state.wakers[state.lastToken] = wake
      return state.lastToken
    }
  }

  /// Takes a call of `wake(after:_:)` back; it may have happened already.
  public func cancelWake(_ token: WakeToken) {
    state.withLockedValue { _ = $0.wakers.removeValue(forKey: token) }
  }
}
