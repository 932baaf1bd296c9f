import CNgtcp2
import MagicalaneCore

/// The congestion control of a connection's sender (RFC 9002 §7 describes `reno`).
enum QUICCongestionControl: String, Decodable, Sendable, CaseIterable {
  case cubic, bbr, bbr2, reno

  var algorithm: ngtcp2_cc_algo {
    switch self {
    case .cubic: NGTCP2_CC_ALGO_CUBIC
    case .bbr: NGTCP2_CC_ALGO_BBR
    case .bbr2: NGTCP2_CC_ALGO_BBR2
    case .reno: NGTCP2_CC_ALGO_RENO
    }
  }
}

/// What both ends of a connection can be told. Times are in nanoseconds, as in all of the QUIC engine.
struct QUICSettings: Sendable {
  /// The protocol that both ends must agree on (ALPN, RFC 9001 §8.1).
  static let applicationProtocol = "magicalane/1"

  /// MB/s over 100 Mbit/s and 40 ms with no loss, 1 % and 10 %: bbr2 11.0, 10.5, 9.1; bbr 10.9, 10.6, 9.0 with
  /// more of it dropped by the queue; cubic 11.0, 0.6, 0.1; reno 11.1, 0.5, 0.1. See docs/quic.md.
  var congestion = QUICCongestionControl.bbr2
  /// Without a packet from the peer for so long, the connection is over (RFC 9000 §10.1).
  var idleTimeout: UInt64 = 30_000_000_000
  /// A client's PING after so long without a packet; nil for a third of the idle time-out, and only while
  /// there are streams.
  var keepAlive: UInt64?
  var handshakeTimeout: UInt64 = 10_000_000_000
  /// Streams that the peer may have open at once.
  var maxStreams = 0
  var windows = QUICWindows(buffer: 20 << 20)
}

/// How much a peer may send ahead of what was taken (RFC 9000 §4).
///
/// A stream's window is extended when its reader takes bytes, so a slow reader stops its own stream. It starts
/// small and grows as `QUICStreamWindow` says. The connection's window is extended when bytes arrive, so that
/// streams which nobody reads never use it up: it bounds what is in flight, and memory is bounded by the number
/// of streams times their windows, and those by the memory budget.
struct QUICWindows: Sendable {
  /// Settled when a connection begins, for that is when the peer is told.
  private(set) var initialStream: UInt64
  let maxStream: UInt64
  let memory: StreamMemory
  /// ngtcp2 lets the peer know of more when half of it is used up, so half of it must hold all that is in
  /// flight, and what waits for lost packets.
  let connection: UInt64
  /// Most bytes that a reader is given at once.
  var batch: Int { memory.least(of: largestBatch) }
  private let largestBatch: Int

  private static let largestInitial = 512 << 10

  /// - Parameters:
  ///   - buffer: most bytes that may wait in one stream, per direction. Seven eighths of it are the window; the
  ///     rest is for what waits behind it, on its way out.
  ///   - memory: how much of that a stream may have at a time.
  init(buffer: Int, memory: StreamMemory = StreamMemory()) {
    self.memory = memory
    maxStream = UInt64(buffer / 8 * 7)
    initialStream = maxStream
    connection = max(2 * maxStream, 1 << 20)
    largestBatch = min(max(buffer / 16, 512), 256 << 10)
    settle()
  }

  /// Takes the budget as it is now for a connection that begins.
  mutating func settle() {
    initialStream = min(UInt64(memory.least(of: QUICWindows.largestInitial)), maxStream)
  }
}
