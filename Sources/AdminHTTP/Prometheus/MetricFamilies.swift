/// What this program says about its own families of metrics: their help texts and buckets.
///
/// `docs/metrics.md` has the same list with labels and examples.
enum MetricFamilies {
  /// The help text of a family.
  static func help(_ name: String) -> String {
    helpTexts[name] ?? "Counted by a plugin, whose documentation says more."
  }

  /// The upper bounds of a histogram's buckets.
  static func buckets(_ name: String) -> [Double] {
    if let own = ownBuckets[name] { return own }
    if name.hasSuffix("_seconds") { return anyTime }
    return name.hasSuffix("_bytes") ? anySize : anyNumber
  }

  /// Every family of this program but those of the process.
  static var known: [String] { Array(helpTexts.keys) }

  /// Families that the exporter itself fills; nobody else gets their names.
  static let reserved: Set<String> = Set(
    ProcessMetrics.Family.allCases.map(\.name) + [buildInfo, droppedSeries, memoryLimit, memoryUsed]
  )

  static let buildInfo = "magicalane_build_info"
  static let droppedSeries = "magicalane_metrics_dropped_series_total"
  static let memoryLimit = "magicalane_memory_limit_bytes"
  static let memoryUsed = "magicalane_memory_used_bytes"

  private static let ownBuckets: [String: [Double]] = [
    "magicalane_open_duration_seconds": openingTime,
    "magicalane_session_duration_seconds": sessionTime,
    "magicalane_quic_rtt_seconds": roundTrip,
    "magicalane_tls_handshake_duration_seconds": openingTime,
    "magicalane_quic_handshake_duration_seconds": openingTime,
  ]

  /// 1 ms to 30 s.
  private static let openingTime: [Double] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
  ]
  /// 10 ms to 1 h.
  private static let sessionTime: [Double] = [
    0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600,
  ]
  /// 0.1 ms to 2 s.
  private static let roundTrip: [Double] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1, 2,
  ]
  private static let anyTime: [Double] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300,
  ]
  private static let anySize: [Double] = (3...15).map { Double(1 << (2 * $0)) }
  private static let anyNumber: [Double] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000]

  private static let helpTexts: [String: String] = [
    buildInfo: "Always 1; the version is in the label.",
    droppedSeries:
      "Series that are recorded nowhere, because there are too many or another kind has their name.",
    memoryLimit: "What may wait in all streams together.",
    memoryUsed: "What is claimed of it.",

    "magicalane_sessions_started_total": "Streams that a frontend accepted.",
    "magicalane_sessions_active": "Sessions that have not ended yet.",
    "magicalane_sessions_finished_total": "Sessions that ended, by how they did.",
    "magicalane_sessions_reopened_total":
      "Streams that broke before the target answered and were opened again on another member.",
    "magicalane_bytes_total": "Bytes moved; up is from the client to the target.",
    "magicalane_open_duration_seconds": "From a client's request to the opened stream.",
    "magicalane_session_duration_seconds": "From accept to the end of a session.",

    "magicalane_path_streams_opened_total": "Streams opened through a member of a transport that chooses.",
    "magicalane_path_failures_total": "Attempts that failed for the member's fault.",
    "magicalane_path_chosen": "1 for the member that new sessions take.",
    "magicalane_path_loss_ratio": "Packets lost by packets sent.",
    "magicalane_path_rtt_seconds": "Smoothed round trip.",
    "magicalane_path_probe_bytes": "Bytes that measuring has cost, estimated.",
    "magicalane_path_switches_total": "Changes of the chosen member.",

    "magicalane_names_total": "Names that were needed, by where their addresses came from.",

    "magicalane_tls_handshakes_total": "TLS handshakes over TCP that were completed.",
    "magicalane_tls_resumptions_total": "Completed TLS handshakes that went on from an earlier session.",
    "magicalane_tls_failures_total": "TLS sessions over TCP that failed, by cause.",
    "magicalane_tls_handshake_duration_seconds": "From the TCP connection to the completed TLS handshake.",

    "magicalane_quic_connections_active":
      "QUIC connections that are not closed, those in their handshake too.",
    "magicalane_quic_handshakes_total": "QUIC handshakes that came to an end, by result.",
    "magicalane_quic_handshake_duration_seconds": "From the first packet to the completed QUIC handshake.",
    "magicalane_quic_resumptions_total": "Completed QUIC handshakes that went on from an earlier session.",
    "magicalane_quic_closes_total": "Established QUIC connections that ended, by cause.",
    "magicalane_quic_datagrams_sent_total":
      "UDP datagrams given to the socket. How many were lost the QUIC library does not tell.",
    "magicalane_quic_datagrams_received_total": "UDP datagrams taken from the socket.",
    "magicalane_quic_streams_opened_total": "QUIC streams opened, by either end.",
    "magicalane_quic_streams_active": "QUIC streams that are not closed.",
    "magicalane_quic_retries_total": "Retry packets that asked a client to prove its address.",
    "magicalane_quic_stateless_resets_total": "Stateless resets sent for unknown connections.",
    "magicalane_quic_latest_rtt_seconds": "The newest sample of the round trip time.",
    "magicalane_quic_smoothed_rtt_seconds": "The smoothed round trip time.",
    "magicalane_quic_min_rtt_seconds": "The shortest round trip time seen on the connection.",
    "magicalane_quic_congestion_window_bytes": "What may be in flight.",
    "magicalane_quic_in_flight_bytes": "What was sent and neither acknowledged nor given up.",
    "magicalane_quic_rtt_seconds":
      "Smoothed round trip times of connections to a listener, about one sample a second of each.",

    "magicalane_admin_requests_total": "Requests to the admin API, by path pattern, method and status.",
  ]
}
