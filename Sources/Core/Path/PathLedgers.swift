import DequeModule
import NIOConcurrencyHelpers
import NIOCore

/// The ledgers of a server, one for each leg that a client named.
///
/// A leg belongs to the user who named it first with a proven name: another user who names the same one gets a
/// ledger of his own, and so reads nobody's counts but his. A ledger is in use while a stream of its leg is open.
/// Unused ones are kept, so that a client's counts go on when it comes back, until room is wanted; the one that is
/// unused for longest goes first. Safe from any thread; asked when streams open and end.
final class PathLedgers: Sendable {
  /// Most ledgers. A leg that comes when all are in use is not counted.
  static let usualLimit = 4096

  fileprivate struct Key: Hashable {
    var leg: LegID
    var user: String?
  }

  fileprivate struct Entry {
    let ledger = PathLedger()
    var streams = 0
    /// When it was last left, in the order of leaving.
    var left: UInt64 = 0
  }

  fileprivate struct State {
    var entries: [Key: Entry] = [:]
    /// Ledgers that were left, the earliest first; some are used again, or were left again since.
    var unused: Deque<(key: Key, left: UInt64)> = []
    var lastLeft: UInt64 = 0
  }

  private let limit: Int
  private let state = NIOLockedValueBox(State())

  init(limit: Int = usualLimit) {
    self.limit = limit
  }

  /// How many there are, used or not.
  var count: Int { state.withLockedValue { $0.entries.count } }

  /// Counts a stream as one of that leg for as long as it is open; called on its event loop.
  ///
  /// - Parameter user: who asked for the stream; nil where nobody is asked for a name.
  /// - Returns: the leg's ledger; nil where there are too many.
  @discardableResult
  func attach(_ channel: any Channel, to leg: LegID, of user: String?) -> PathLedger? {
    let key = Key(leg: leg, user: user)
    guard let ledger = enter(key) else { return nil }
    ledger.attach(channel)
    channel.closeFuture.whenComplete { [self] _ in leave(key) }
    return ledger
  }

  private func enter(_ key: Key) -> PathLedger? {
    state.withLockedValue { state in
      if state.entries[key] == nil {
        guard state.entries.count < limit || state.makeRoom() else { return nil }
        state.entries[key] = Entry()
      }
      state.entries[key]?.streams += 1
      return state.entries[key]?.ledger
    }
  }

  private func leave(_ key: Key) {
    state.withLockedValue { state in
      guard var entry = state.entries[key] else { return }
      entry.streams -= 1
      if entry.streams == 0 {
        state.lastLeft += 1
        entry.left = state.lastLeft
        state.unused.append((key, entry.left))
      }
      state.entries[key] = entry
      if state.unused.count > 2 * limit { state.tidy() }
    }
  }
}

extension PathLedgers.State {
  /// Forgets the ledger that is unused for longest; false where all are in use.
  fileprivate mutating func makeRoom() -> Bool {
    while let (key, left) = unused.popFirst() {
      guard isUnused(key, since: left) else { continue }
      entries[key] = nil
      return true
    }
    return false
  }

  /// Drops what stands in the line of unused ones and is not.
  fileprivate mutating func tidy() {
    unused = Deque(unused.filter { isUnused($0.key, since: $0.left) })
  }

  private func isUnused(_ key: PathLedgers.Key, since left: UInt64) -> Bool {
    entries[key].map { $0.streams == 0 && $0.left == left } ?? false
  }
}
