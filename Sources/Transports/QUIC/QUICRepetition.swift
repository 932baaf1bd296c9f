import DequeModule
import NIOCore

/// Sends small batches of packets twice while the path loses packets.
///
/// Who sends little learns late of a loss: nothing follows that the peer could acknowledge, so that the probe
/// time-out has to pass (RFC 9002 §6.2), and the next one is twice as long. A second copy a little later makes a loss
/// of one in ten one in a hundred, at the cost of a packet where packets are few. The receiver drops whichever copy
/// comes second, by its number (RFC 9000 §12.3). Who sends much repeats nothing: there, what follows shows the loss.
///
///     calm ── a loss that a timer found ──► lossy ── none for `hold` ──► calm
///
/// It has no clock: times are the connection's, in nanoseconds.
struct QUICRepetition {
  /// So long a path counts as lossy after its last loss: most of them are made good meanwhile and do not show.
  static let hold: UInt64 = 10_000_000_000
  /// On a shorter path a loss is repaired soon enough, and a busy host is soon taken for one.
  private static let shortestRoundTrip: UInt64 = 5_000_000
  /// By then it is known whether a packet was lost.
  private static let sizeProbeRoundTrips: UInt64 = 3
  /// Most packets that count as few.
  private static let mostPackets = 2
  /// Most copies that wait; who makes more sends much.
  private static let mostWaiting = 16

  /// 0 while it is calm.
  private var lossyUntil: UInt64 = 0
  /// When the last one was sent.
  private var sizeProbe: UInt64?
  private var waiting: Deque<(due: UInt64, bytes: ByteBuffer, batch: DatagramBatch)> = []
  /// Where the lossy path leads.
  private var remote: SocketAddress?

  /// A packet was found lost by a timer, as those are that nothing follows.
  ///
  /// - Parameter remote: the peer's address. Of another path nothing is known, not even whether the peer is there
  ///   (RFC 9000 §8.2).
  mutating func noteLoss(to remote: SocketAddress, roundTrip: UInt64, now: UInt64) {
    let mayBeSizeProbe = sizeProbe.map { now < $0 + Self.sizeProbeRoundTrips * roundTrip } ?? false
    guard roundTrip >= Self.shortestRoundTrip, !mayBeSizeProbe else { return }
    self.remote = remote
    lossyUntil = now + Self.hold
  }

  /// A packet went out to try whether the path carries such large ones (RFC 9000 §14.4): that it is lost says nothing.
  mutating func noteSizeProbe(now: UInt64) { sizeProbe = now }

  func isLossy(_ now: UInt64) -> Bool { now < lossyUntil }

  /// Whether these are packets to be sent twice.
  func wants(_ batch: DatagramBatch, bytes: Int, now: UInt64) -> Bool {
    isLossy(now) && batch.remote == remote && batch.count(of: bytes) <= Self.mostPackets
      && waiting.count < Self.mostWaiting
  }

  /// Keeps a copy, which is due after an eighth of a round trip: losses come in groups.
  mutating func keep(_ bytes: ByteBuffer, _ batch: DatagramBatch, now: UInt64, roundTrip: UInt64) {
    waiting.append((now + roundTrip / 8, ByteBuffer(bytes: bytes.readableBytesView), batch))
  }

  /// When `next` has something.
  var due: UInt64? { waiting.first?.due }

  /// The next copy that is due.
  mutating func next(now: UInt64) -> (bytes: ByteBuffer, batch: DatagramBatch)? {
    guard let first = waiting.first, first.due <= now else { return nil }
    waiting.removeFirst()
    return (first.bytes, first.batch)
  }
}
