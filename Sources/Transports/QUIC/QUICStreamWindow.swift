/// How far ahead of its reader the peer of one stream may send (RFC 9000 §4.1).
///
/// ngtcp2 could make windows larger by itself, but tells the peer only when half of one is used up, and stops
/// at four round trips. Half a window must then hold what is in flight and what waits for lost packets to come
/// again, and where one packet in ten is lost it does not. Here the window grows by bytes that were not taken
/// yet, of which ngtcp2 knows nothing: it goes on to tell the peer whenever half of the *first* window is used.
///
/// Where memory runs short the window shrinks again: the peer is told of less than was taken.
struct QUICStreamWindow {
  private(set) var size: UInt64
  private let least: UInt64
  private let most: UInt64
  private var taken: UInt64 = 0
  private var since: UInt64 = 0

  /// Round trips in which the reader must take half of the window to get a larger one.
  private static let roundTrips: UInt64 = 8

  init(_ windows: QUICWindows) {
    size = windows.initialStream
    least = windows.initialStream
    most = windows.maxStream
  }

  /// By how much it is larger than at first.
  var grown: Int { Int(size - least) }

  /// The reader took `count` bytes.
  ///
  /// A reader that is slower than its path takes longer for half a window, and keeps the one it has.
  ///
  /// - Parameters:
  ///   - room: what the window may have now; never so little that it is less than at first.
  ///   - roundTrip: asked for where it matters; in the unit of `now`.
  /// - Returns: how much more the peer may send.
  mutating func take(_ count: UInt64, now: UInt64, room: UInt64 = .max, roundTrip: () -> UInt64) -> UInt64 {
    let most = min(most, max(room, least))
    taken += count
    if size > most {
      let kept = min(count, size - most)
      size -= kept
      return count - kept
    }
    guard size < most, taken >= size / 2 else { return count }
    let isFast = since > 0 && now - since < QUICStreamWindow.roundTrips * roundTrip()
    let growth = isFast ? min(size, most - size) : 0
    taken = 0
    since = now
    size += growth
    return count + growth
  }
}
