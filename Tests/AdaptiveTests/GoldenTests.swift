import Foundation
import MagicalaneCore
import Testing

@testable import MagicalaneAdaptive

/// A small trace, and what came of it: kept as text, so that a change of the policy shows.
@Suite struct GoldenTests {
  @Test func `the decisions for a known trace stay byte for byte`() throws {
    let (first, again) = (try decided(), try decided())
    #expect(first == Self.golden)
    #expect(first == again)
  }

  private func decided() throws -> String {
    let result = try SimulatedPath().run(seconds: 200, seed: 11) { second in
      switch second {
      case ..<40: (udp: 0.005, tcp: 0.005)
      case ..<90: (udp: 0.1, tcp: 0.1)
      case ..<120: (udp: 1, tcp: 0.1)
      default: (udp: 0.1, tcp: 0.1)
      }
    }
    let text = try result.samples.map { try TraceLine.sample($0).text() }.joined()
    var reader = TraceReader(
      Data((try TraceLine.header(Self.header).text() + text).utf8),
      file: "golden"
    )
    var replay = try TraceReplay(Self.header)
    while let line = try reader.next() {
      if case .sample(let sample) = line { replay.take(sample) }
    }
    return replay.decisions.map { decision in
      let second = Int(decision.time.timeIntervalSince1970 - SimulatedPath.start)
      return """
        \(second) \(decision.chosen), \(decision.diagnosis): \(decision.reason)
          not: \(decision.whyNot ?? "-")

        """
    }.joined()
  }

  private static let header = TraceHeader(
    transport: "tokyo",
    members: SimulatedPath.members,
    settings: AdaptiveSettings()
  )

  private static let golden = """
    0 tokyo-quic, unknown: tokyo-quic lost 0.0 % of 8 packets upward, fewer than min_packets 50, and it \
    is the first of members
      not: tokyo-tls lost 0.0 % of 8 packets upward, fewer than min_packets 50
    6 tokyo-tls, clean: tokyo-tls lost 0.0 % of 56 packets upward, below enter_loss 5 %, and it is the \
    cheaper one
      not: tokyo-quic lost 0.4 % of 248 packets upward, below enter_loss 5 %, but it is the dearer one
    41 tokyo-tls, UDP policed or blocked: tokyo-tls lost 2.0 % of 400 packets upward, below enter_loss \
    5 %
      not: tokyo-quic lost 5.0 % of 80 packets downward, at or above enter_loss 5 %
    43 tokyo-quic, lossy path: tokyo-quic bears the loss of the path: tokyo-quic lost 6.3 % of 80 \
    packets downward, at or above enter_loss 5 %
      not: tokyo-tls lost 5.0 % of 400 packets downward, at or above enter_loss 5 %
    92 tokyo-tls, down: tokyo-tls can be reached: tokyo-tls lost 12.5 % of 80 packets downward, at or \
    above enter_loss 5 %
      not: tokyo-quic failed once (stalled)
    120 tokyo-tls, lossy path: tokyo-tls stays: the last switch was 28 s ago, and dwell is 30s, until \
    08:02:02 UTC
      not: held back although tokyo-quic bears the loss of the path: tokyo-quic lost 10.2 % of 88 \
    packets downward, at or above enter_loss 5 %
    122 tokyo-quic, lossy path: tokyo-quic bears the loss of the path: tokyo-quic lost 14.1 % of 64 \
    packets downward, at or above enter_loss 5 %
      not: tokyo-tls lost 11.3 % of 400 packets upward, at or above enter_loss 5 %

    """
}
