import CNgtcp2
import Metrics

/// What a connection knows about the way to its peer (RFC 9002). Times in nanoseconds.
struct QUICPathState {
  var latestRoundTrip: UInt64
  var smoothedRoundTrip: UInt64
  var roundTripVariation: UInt64
  var shortestRoundTrip: UInt64
  /// In bytes.
  var congestionWindow: UInt64
  /// In bytes.
  var inFlight: UInt64
}

extension QUICConnection {
  /// The state of the path, as of now; nil before the first round trip.
  var pathState: QUICPathState? {
    let stat = statistics
    guard stat.min_rtt != .max else { return nil }
    return QUICPathState(
      latestRoundTrip: stat.latest_rtt,
      smoothedRoundTrip: stat.smoothed_rtt,
      roundTripVariation: stat.rttvar,
      shortestRoundTrip: stat.min_rtt,
      congestionWindow: stat.cwnd,
      inFlight: stat.bytes_in_flight
    )
  }
}

/// Where the state of a connection's path goes to.
enum QUICPathSamples {
  /// A client has one connection per loop, so each has gauges of its own.
  case gauges(QUICPathGauges)
  /// A server has many; all share one histogram of round trips.
  case histogram(Recorder)

  /// How often a busy connection tells it, in nanoseconds.
  static let interval: UInt64 = 1_000_000_000

  func record(_ state: QUICPathState) {
    switch self {
    case .gauges(let gauges): gauges.record(state)
    case .histogram(let recorder): recorder.record(Double(state.smoothedRoundTrip) / 1e9)
    }
  }
}

/// The state of one connection's path as gauges, which are shown for as long as this lives.
final class QUICPathGauges: Sendable {
  private let latest: Gauge
  private let smoothed: Gauge
  private let shortest: Gauge
  private let congestionWindow: Gauge
  private let inFlight: Gauge

  init(_ names: [(String, String)], _ factory: any MetricsFactory) {
    func gauge(_ name: String) -> Gauge {
      Gauge(label: "magicalane_quic_\(name)", dimensions: names, factory: factory)
    }
    latest = gauge("latest_rtt_seconds")
    smoothed = gauge("smoothed_rtt_seconds")
    shortest = gauge("min_rtt_seconds")
    congestionWindow = gauge("congestion_window_bytes")
    inFlight = gauge("in_flight_bytes")
  }

  deinit {
    for gauge in [latest, smoothed, shortest, congestionWindow, inFlight] { gauge.destroy() }
  }

  func record(_ state: QUICPathState) {
    latest.record(Double(state.latestRoundTrip) / 1e9)
    smoothed.record(Double(state.smoothedRoundTrip) / 1e9)
    shortest.record(Double(state.shortestRoundTrip) / 1e9)
    congestionWindow.record(Double(state.congestionWindow))
    inFlight.record(Double(state.inFlight))
  }
}
