import MagicalaneCore
import Metrics
import MetricsTestKit
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

@Suite struct TLSMetricsTests {
  let factory = TestMetrics()
  let client: TLSMetrics
  let server: TLSMetrics
  let clientNames = [("role", "client"), ("transport", "t")]
  let serverNames = [("role", "server"), ("frontend", "f")]

  init() {
    client = TLSMetrics(transport: "t", factory: factory)
    server = TLSMetrics(frontend: "f", factory: factory)
  }

  private func pair(_ credentials: TLSTestCredentials, tickets: SessionTickets? = nil) throws -> TLSPair {
    try TLSPair(credentials, tickets: tickets, clientMetrics: client, serverMetrics: server)
  }

  private func count(_ label: String, _ names: [(String, String)]) throws -> Int64 {
    try factory.expectCounter(label, names).totalValue
  }

  /// Causes with a count, by name.
  private func failures(_ names: [(String, String)]) throws -> [String: Int64] {
    var found: [String: Int64] = [:]
    for cause in TLSFailureCause.allCases {
      let count = try count("magicalane_tls_failures_total", names + [("cause", cause.rawValue)])
      if count > 0 { found[cause.rawValue] = count }
    }
    return found
  }

  @Test func `a handshake counts once at each end, a resumed one as such too`() throws {
    let credentials = try TLSTestCredentials()
    let tickets = SessionTickets()
    for _ in 0..<2 {
      let pair = try pair(credentials, tickets: tickets)
      try pair.pump()
      pair.server.write([1])
      try pair.pump()
      pair.client.endOutput()
      pair.server.endOutput()
      try pair.pump()
    }
    for names in [clientNames, serverNames] {
      #expect(try count("magicalane_tls_handshakes_total", names) == 2)
      #expect(try count("magicalane_tls_resumptions_total", names) == 1)
      #expect(try factory.expectTimer("magicalane_tls_handshake_duration_seconds", names).values.count == 2)
      #expect(try failures(names).isEmpty)
    }
  }

  @Test func `each fault of a certificate has its cause, and the other end sees an alert`() throws {
    let directory = try TemporaryDirectory()
    let other = try SelfSignedCertificate.make(hosts: ["other.example"])
    let otherFile = try other.write(to: directory.path).certificate
    let cases: [(String, TLSTestCredentials)] = [
      ("certificate_untrusted", try TLSTestCredentials { _ in TLSClientOptions(ca: otherFile) }),
      ("certificate_name_mismatch", try TLSTestCredentials(server: .name("other.example"))),
      ("certificate_expired", try TLSTestCredentials(validity: .seconds(-1800))),
      (
        "certificate_pin_mismatch",
        try TLSTestCredentials { _ in TLSClientOptions(pinSha256: [other.pinSHA256]) }
      ),
    ]
    for (_, credentials) in cases { try pair(credentials).pump() }
    #expect(try failures(clientNames) == Dictionary(uniqueKeysWithValues: cases.map { ($0.0, 1) }))
    #expect(try failures(serverNames) == ["alert": 4])
    #expect(try count("magicalane_tls_handshakes_total", clientNames) == 0)
  }

  @Test func `what is not TLS and a peer that closes are told apart`() throws {
    let credentials = try TLSTestCredentials()
    let talker = try TLSEnd(
      .server(credentials.server),
      applicationProtocol: "http/1.1",
      readsOn: true,
      metrics: server
    )
    try talker.activate()
    talker.wire = ByteBuffer(string: "GET / HTTP/1.1\r\n\r\n")
    try talker.deliver(.max)
    #expect(try failures(serverNames) == ["protocol": 1])
    let leaver = try TLSEnd(
      .server(credentials.server),
      applicationProtocol: "http/1.1",
      readsOn: true,
      metrics: server
    )
    try leaver.activate()
    leaver.endSocketInput()
    #expect(try failures(serverNames) == ["protocol": 1, "closed": 1])
  }

  @Test func `a handshake that this end gives up is a time-out`() throws {
    let pair = try pair(TLSTestCredentials())
    pair.client.channel.close(promise: nil)
    #expect(try failures(clientNames) == ["timeout": 1])
  }

  @Test func `an end without close_notify is a truncation, a broken socket none of our errors`() throws {
    let credentials = try TLSTestCredentials()
    let cut = try pair(credentials)
    try cut.pump()
    cut.client.endSocketInput()
    #expect(try failures(clientNames) == ["truncated": 1])
    let reset = try pair(credentials)
    try reset.pump()
    reset.client.channel.pipeline.fireErrorCaught(IOError(errnoCode: 104, reason: "read"))
    #expect(try failures(clientNames) == ["truncated": 1])
  }

  @Test func `all causes are shown from the start, and go with their owner`() {
    let own = TestMetrics()
    do {
      let metrics = TLSMetrics(transport: "t", factory: own)
      #expect(own.counters.count == 2 + TLSFailureCause.allCases.count)
      metrics.failed(.closed)
    }
    #expect(own.counters.isEmpty && own.timers.isEmpty)
  }
}
