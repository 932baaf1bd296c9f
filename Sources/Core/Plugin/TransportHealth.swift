import Foundation
import NIOConcurrencyHelpers

/// Whether a transport reaches its server, as far as its last attempts tell.
///
/// A transport reports each attempt to open a stream to its server; a change is an event. A target that cannot
/// be reached says nothing about the transport. Safe from any thread; used once per session, never per byte.
public final class TransportHealth: Sendable {
  /// What the last attempt showed.
  public enum State: String, Sendable, CaseIterable, Codable {
    /// None was made yet, or the transport has no server of its own.
    case unknown
    case up
    case down
  }

  private let name: String
  private let events: EventLog?
  private let current = NIOLockedValueBox(State.unknown)
  private let watchers = NIOLockedValueBox<[WatchToken: Watcher]>([:])

  /// Names one call of `watch`.
  public struct WatchToken: Hashable, Sendable {
    fileprivate let number: Int
  }

  private struct Watcher: Sendable {
    var failed: @Sendable (OpenError) -> Void
  }

  /// - Parameter events: who is told of changes.
  public init(name: String, events: EventLog? = nil) {
    self.name = name
    self.events = events
  }

  /// What the last attempt showed.
  public var state: State { current.withLockedValue { $0 } }

  /// A stream to the server was opened.
  public func succeeded() {
    if change(to: .up) { events?.publish(.transportUp(name)) }
  }

  /// None could be opened.
  public func failed(_ error: OpenError) {
    // This end's own limits and its shutting down say nothing about the server.
    guard error.kind != .unavailable else { return }
    for watcher in watchers.withLockedValue({ Array($0.values) }) { watcher.failed(error) }
    if change(to: .down) { events?.publish(.transportDown(name, reason: "\(error)")) }
  }

  /// Calls `failed` with each attempt that fails from now on, on the thread that reports it.
  public func watch(_ failed: @escaping @Sendable (OpenError) -> Void) -> WatchToken {
    watchers.withLockedValue { watchers in
      let token = WatchToken(number: (watchers.keys.map(\.number).max() ?? 0) + 1)
      watchers[token] = Watcher(failed: failed)
      return token
    }
  }

  /// Ends a watch.
  public func unwatch(_ token: WatchToken) {
    watchers.withLockedValue { $0[token] = nil }
  }

  private func change(to state: State) -> Bool {
    current.withLockedValue { current in
      defer { current = state }
      return current != state
    }
  }
}
