/// How much of one stream may be on its way, so that its receiver has no more gaps in it than ngtcp2 bears.
///
/// ngtcp2 gives a connection up where a stream has 1000 gaps (`ngtcp2_strm_recv_reordering`, 0.12): many packets
/// on their way, of which many are lost. Where one in `1 / p` is lost, `p (1 - p)` of them have a gap behind them.
/// What is lost is not told, but what is sent again is: all bytes of packets that are not new ones of a stream.
/// Where nothing was, losses may still begin while much is on its way.
struct QUICGapLimit {
  /// Well below what ngtcp2 bears, for losses come as they will.
  private static let mostGaps = 800.0
  /// The part of the packets that is taken for lost at least.
  private static let leastLoss = 0.08
  /// The most that makes a difference: with more, gaps grow together.
  private static let mostLoss = 0.5
  /// Bytes of packets after which the part that is lost is reckoned anew.
  private static let interval = 256 << 10
  /// What headers and authentication take of a full packet.
  private static let overhead = 0.04

  /// Most bytes that may be on their way. The first packets are sent as if half of them were lost.
  private(set) var most: Int
  private let packet: Double
  private var loss = QUICGapLimit.mostLoss
  private var packetBytes = 0
  private var newBytes = 0

  /// - Parameter packetSize: the smallest that full packets have, in bytes.
  init(packetSize: Int) {
    packet = Double(packetSize)
    most = 0
    settle()
  }

  /// A packet carries so many bytes of streams for the first time.
  mutating func carried(_ bytes: Int) { newBytes += bytes }

  /// Packets went out.
  mutating func sent(_ bytes: Int) {
    packetBytes += bytes
    guard packetBytes >= Self.interval else { return }
    let again = 1 - Double(newBytes) / (Double(packetBytes) * (1 - Self.overhead))
    loss += (min(max(again, Self.leastLoss), Self.mostLoss) - loss) / 4
    (packetBytes, newBytes) = (0, 0)
    settle()
  }

  private mutating func settle() {
    most = Int(Self.mostGaps * packet / (loss * (1 - loss)))
  }
}
