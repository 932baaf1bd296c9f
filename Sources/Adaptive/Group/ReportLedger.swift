import MagicalaneCore

/// Turns the counts of both ends of a leg into packets sent and lost since the report before. No I/O, no clock.
///
/// Up, towards the server, rests on what this end sent; down on what the far end sent. Where the sender knows its
/// losses (TCP), it is believed; else what the other end received is taken from what was sent (datagrams). Of those
/// two counts one is older, by the way between the ends: what was under way then seems lost in one report and is
/// made good in the next. So only a new high of the difference counts as loss. The two ends may have begun to count
/// at different packets; that is the same in all reports and cancels out.
struct ReportLedger {
  private var up = Direction()
  private var down = Direction()

  /// One direction between its two ends.
  private struct Direction {
    private var sent: UInt64 = 0
    private var highest: Int64 = 0
    private var isBegun = false

    mutating func take(sender: PathCounts, received: UInt64?) -> LegSample.Packets? {
      guard let missing = sender.missing(received: received) else {
        isBegun = false
        return nil
      }
      // The far end has forgotten what it counted, or another one answers.
      guard isBegun, sender.sent >= sent else {
        (sent, highest, isBegun) = (sender.sent, missing, true)
        return nil
      }
      let newlySent = sender.sent - sent
      let newlyLost = UInt64(max(0, missing - highest))
      (sent, highest) = (sender.sent, max(highest, missing))
      return newlySent > 0 ? LegSample.Packets(sent: newlySent, lost: min(newlySent, newlyLost)) : nil
    }
  }

  /// - Parameters:
  ///   - asked: this end's counts when it asked.
  ///   - far: the far end's when it answered.
  ///   - answered: this end's when the answer came.
  mutating func take(
    asked: PathCounts,
    far: PathCounts,
    answered: PathCounts
  ) -> (up: LegSample.Packets?, down: LegSample.Packets?) {
    (up.take(sender: asked, received: far.received), down.take(sender: far, received: answered.received))
  }
}

extension PathCounts {
  /// What was sent and did not arrive as far as is known; nil where nothing is.
  fileprivate func missing(received: UInt64?) -> Int64? {
    if let lost { return Int64(clamping: lost) }
    return received.map { Int64(clamping: sent) - Int64(clamping: $0) }
  }
}
