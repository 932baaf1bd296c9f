/// How far ahead of its reader the peer of one stream may send (RFC 9000 §4.1).
///
/// ngtcp2 could make windows larger by itself, but tells the peer only when half of one is used up, and stops
/// at four round trips. Half a window must then hold what is in flight and what waits for lost packets to come
/// again, and where one packet in ten is lost it does not. Here the window grows by bytes that were not taken
/// yet, of which ngtcp2 knows nothing: it goes on to tell the peer whenever half of the *first* window is used.
struct QUICStreamWindow {
  private(set) var size: UInt64
  private let most: UInt64
  private var taken: UInt64 = 0
  private var since: UInt64 = 0

  /// Round trips in which the reader must take half of the window to get a larger one.
  private static let roundTrips: UInt64 = 8

  init(_ windows: QUICWindows) {
    size = windows.initialStream
    most = windows.maxStream
  }

  /// The reader took `count` bytes.
  ///
  /// A reader that is slower than its path takes longer for half a window, and keeps the one it has.
  ///
  /// - Parameter roundTrip: asked for where it matters; in the unit of `now`.
  /// - Returns: by how much the window grew.
  mutating func take(_ count: UInt64, now: UInt64, roundTrip: () -> UInt64) -> UInt64 {
    taken += count
    guard size < most, taken >= size / 2 else { return 0 }
    let isFast = since > 0 && now - since < QUICStreamWindow.roundTrips * roundTrip()
    let growth = isFast ? min(size, most - size) : 0
    taken = 0
    since = now
    size += growth
    return growth
  }
}
