/// The packets of one direction of a leg, as far back as they still count.
///
/// It reaches back `window`, or further as far as needed to hold `min_packets`, but never beyond `reach`.
struct LossWindow: Sendable, Equatable {
  /// What is lost of what was sent.
  struct Estimate: Sendable, Equatable {
    var sent: UInt64 = 0
    var lost: UInt64 = 0
    /// When the newest of them were counted.
    var latest: Milliseconds
    /// In how many stretches of half a second packets were lost.
    var lossyStretches = 0

    /// Whether packets are lost again and again. A queue that overflows when a bulk transfer begins drops a great
    /// many at once, and then none: that is how TCP finds its rate, and says nothing of the path.
    var isLastingLoss: Bool { lossyStretches >= 3 }

    /// 0 to 1.
    var ratio: Double { sent == 0 ? 0 : min(Double(lost) / Double(sent), 1) }

    /// As much as the path may lose, with a chance of five in six that it loses no more: the upper end of
    /// Wilson's interval at one standard deviation.
    var upperBound: Double {
      let count = Double(sent)
      let spread = (ratio * (1 - ratio) / count + 1 / (4 * count * count)).squareRoot()
      return (ratio + 1 / (2 * count) + spread) / (1 + 1 / count)
    }
  }

  private struct Entry: Sendable, Equatable {
    var time: Milliseconds
    var packets: LegSample.Packets
  }

  private var entries: [Entry] = []
  /// Samples that follow each other faster than this are counted as one, so that a burst of them costs nothing.
  private static let grain: Milliseconds = 100
  private static let stretch: Milliseconds = 500

  /// Adds what was learned, and forgets what is out of reach.
  mutating func take(_ packets: LegSample.Packets?, at now: Milliseconds, reach: Milliseconds) {
    if let first = entries.firstIndex(where: { $0.time > now - reach }) {
      entries.removeFirst(first)
    } else {
      entries.removeAll()
    }
    guard let packets, packets.sent > 0 || packets.lost > 0 else { return }
    if let last = entries.indices.last, now - entries[last].time < Self.grain {
      entries[last].packets.sent.addSaturating(packets.sent)
      entries[last].packets.lost.addSaturating(packets.lost)
    } else {
      entries.append(Entry(time: now, packets: packets))
    }
  }

  /// Nil where no packet counts.
  func estimate(at now: Milliseconds, window: Milliseconds, minPackets: UInt64) -> Estimate? {
    guard let last = entries.last else { return nil }
    var estimate = Estimate(latest: last.time)
    var lossy: Milliseconds?
    for entry in entries.reversed() {
      guard entry.time > now - window || estimate.sent < minPackets else { break }
      estimate.sent.addSaturating(entry.packets.sent)
      estimate.lost.addSaturating(entry.packets.lost)
      if entry.packets.lost > 0, lossy.map({ $0 - entry.time >= Self.stretch }) ?? true {
        estimate.lossyStretches += 1
        lossy = entry.time
      }
    }
    return estimate.sent == 0 ? nil : estimate
  }
}

/// Time inside the policy: whole, so that sums of it are exact.
typealias Milliseconds = Int64

extension UInt64 {
  /// Stays at the largest number rather than beyond it.
  mutating func addSaturating(_ other: UInt64) {
    let (sum, overflow) = addingReportingOverflow(other)
    self = overflow ? .max : sum
  }
}
