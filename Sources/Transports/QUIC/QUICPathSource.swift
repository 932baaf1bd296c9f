import MagicalaneCore

/// What a QUIC connection counts of its path, for all its streams.
///
/// Only both ends together know what was lost: the library tells no count of it. Lives on the connection's event
/// loop; holds nothing of it, so that it can be kept for its last counts.
final class QUICPathSource: PathSource {
  private weak var connection: QUICConnection?
  private var last: PathCounts?
  private(set) var isOver = false

  init(_ connection: QUICConnection) {
    self.connection = connection
    if !connection.isOpen { end() }
  }

  var counts: PathCounts? {
    guard !isOver, let connection else { return last }
    return PathCounts(
      sent: connection.datagramsSent,
      received: connection.datagramsReceived,
      roundTrip: connection.pathState.map {
        PathCounts.RoundTrip(smoothed: $0.smoothedRoundTrip, variation: $0.roundTripVariation)
      }
    )
  }

  /// The connection is over for its streams, and still there to be asked.
  func end() {
    last = counts
    isOver = true
  }
}

extension QUICStreamChannel: PathMeasured {
  var path: any PathSource { host.connection.pathSource }
}
