import Logging
import MagicalaneCore
import Metrics
import MetricsTestKit
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

@Suite(.timeLimit(.minutes(1))) struct QUICMetricsTests {
  private let factory = TestMetrics()
  private let client = [("role", "client"), ("transport", "test")]
  private let server = [("role", "server"), ("frontend", "test")]

  private func count(_ name: String, _ names: [(String, String)]) throws -> Int64 {
    try factory.expectCounter("magicalane_quic_\(name)_total", names).totalValue
  }

  private func results(_ names: [(String, String)]) throws -> [QUICHandshakeResult: Int64] {
    var found: [QUICHandshakeResult: Int64] = [:]
    for result in QUICHandshakeResult.allCases {
      let count = try count("handshakes", names + [("result", result.rawValue)])
      if count > 0 { found[result] = count }
    }
    return found
  }

  private func closes(_ names: [(String, String)]) throws -> Int64 {
    try QUICCloseCause.allCases.reduce(0) { try $0 + count("closes", names + [("cause", $1.rawValue)]) }
  }

  private func level(_ name: String, _ names: [(String, String)]) throws -> Double {
    try factory.expectMeter("magicalane_quic_\(name)", names).lastValue ?? 0
  }

  /// Runs a server and a client, and looks at their metrics after both have ended.
  private func run(
    loops: Int = 1,
    retry: QUICRetryPolicy = .never,
    pin: String? = nil,
    _ body: (QUICLoopback, QUICTransport) async throws -> Void,
    after: () throws -> Void = {}
  ) async throws {
    let loopback = try withMetricsFactory(factory) { try QUICLoopback(loops: loops) { $0.retry = retry } }
    let address = try await loopback.listener.bind(accept: echo)
    let transport = try withMetricsFactory(factory) { try loopback.transport(to: address, pin: pin) }
    try await body(loopback, transport)
    await transport.shutdown()
    try await loopback.end()
    try expectQuiet()
    // The series go with their owners.
    try withExtendedLifetime((loopback, transport)) { try after() }
  }

  private func expectQuiet() throws {
    for names in [client, server] {
      #expect(try level("connections_active", names) == 0)
      #expect(try level("streams_active", names) == 0)
      let completed = try results(names)[.completed] ?? 0
      #expect(try closes(names) == completed)
    }
  }

  private func open(_ transport: QUICTransport, _ loopback: QUICLoopback) async throws -> any Channel {
    try await transport.openStream(deadline: .now() + .seconds(10), on: loopback.group.next()).get()
  }

  @Test func `both ends count handshake, streams and datagrams`() async throws {
    try await run { loopback, transport async throws in
      for _ in 0..<3 {
        let sent = pattern(100_000)
        #expect(try await open(transport, loopback).exchange(sent) == sent)
      }
      for names in [client, server] {
        #expect(try results(names) == [.completed: 1])
        #expect(try count("streams_opened", names) == 3)
        #expect(try level("connections_active", names) == 1)
        #expect(
          try factory.expectTimer("magicalane_quic_handshake_duration_seconds", names).values.count == 1
        )
        #expect(try count("resumptions", names) == 0)
      }
      let roundTrips = try factory.expectRecorder("magicalane_quic_rtt_seconds", server).values
      #expect(!roundTrips.isEmpty && roundTrips.allSatisfy { $0 > 0 && $0 < 5 })
    } after: { () throws in
      // 300 kB each way, in packets of at most 1452 bytes.
      for names in [client, server] { #expect(try count("datagrams_received", names) > 200) }
      #expect(try count("datagrams_received", server) <= count("datagrams_sent", client))
      #expect(try count("datagrams_received", client) <= count("datagrams_sent", server))
    }
  }

  @Test func `a client's gauges are there while its connection is, by loop`() async throws {
    let names = client + [("loop", "0")]
    try await run { loopback, transport async throws in
      #expect(throws: (any Error).self) { try factory.expectGauge("magicalane_quic_min_rtt_seconds", names) }
      let sent = pattern(1000)
      #expect(try await open(transport, loopback).exchange(sent) == sent)
      for name in ["latest_rtt_seconds", "smoothed_rtt_seconds", "min_rtt_seconds"] {
        let value = try #require(try factory.expectGauge("magicalane_quic_\(name)", names).lastValue)
        #expect(value > 0 && value < 5)
      }
      let window = try factory.expectGauge("magicalane_quic_congestion_window_bytes", names).lastValue
      #expect(window ?? 0 > 1200)
    }
    #expect(throws: (any Error).self) { try factory.expectGauge("magicalane_quic_min_rtt_seconds", names) }
  }

  @Test func `a Retry is counted by who sent it and by who got it`() async throws {
    try await run(retry: .always) { loopback, transport async throws in
      let sent = pattern(10)
      #expect(try await open(transport, loopback).exchange(sent) == sent)
      #expect(try count("retries", client) == 1)
      #expect(try count("retries", server) == 1)
    }
  }

  @Test func `a certificate that is refused is a result of its own`() async throws {
    let other = try SelfSignedCertificate.make(hosts: ["localhost"])
    try await run(pin: other.pinSHA256) { loopback, transport async throws in
      await #expect(throws: OpenError.self) { try await open(transport, loopback) }
      while try results(server).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    } after: { () throws in
      #expect(try results(client) == [.certificateRefused: 1])
      #expect(try results(server) == [.closedByPeer: 1])
    }
  }

  @Test func `a server hears at once of a client that shuts down`() async throws {
    try await run { loopback, transport async throws in
      let sent = pattern(10)
      #expect(try await open(transport, loopback).exchange(sent) == sent)
      await transport.shutdown()
      while try closes(server) == 0 { try await Task.sleep(for: .milliseconds(5)) }
      #expect(try count("closes", server + [("cause", "closed_by_peer")]) == 1)
      #expect(try count("closes", client + [("cause", "closed_here")]) == 1)
    }
  }

  @Test func `a server that is not there is unreachable`() async throws {
    try await run { loopback, transport async throws in
      await loopback.listener.close()
      await #expect(throws: OpenError.self) { try await open(transport, loopback) }
      #expect(try results(client).keys.elementsEqual([.unreachable]))
    }
  }

  // MARK: Datagrams

  @Test func `a batch of datagrams is counted at once, whatever their number`() throws {
    let loop = EmbeddedEventLoop()
    let metrics = QUICMetrics(frontend: "test", factory: factory)
    let endpoint = QUICEndpoint(
      on: loop,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      metrics: metrics
    )
    let channel = EmbeddedChannel(handler: endpoint, loop: loop)
    let remote = try SocketAddress(ipAddress: "192.0.2.1", port: 4433)
    channel.localAddress = try SocketAddress(ipAddress: "192.0.2.2", port: 4433)
    var strangers = 0
    endpoint.stranger = { datagram in
      strangers += 1
      endpoint.send([1, 2, 3], to: datagram.remote)
    }
    for _ in 0..<2 {
      let joined = AddressedEnvelope(
        remoteAddress: remote,
        data: ByteBuffer(repeating: 0x40, count: 63 * 100 + 50),
        metadata: .init(ecnState: .transportNotCapable, packetInfo: nil, segmentSize: 100)
      )
      channel.pipeline.fireChannelRead(joined)
    }
    channel.pipeline.fireChannelReadComplete()
    #expect(strangers == 128)
    // One addition for each direction.
    let received = try factory.expectCounter("magicalane_quic_datagrams_received_total", server)
    let sent = try factory.expectCounter("magicalane_quic_datagrams_sent_total", server)
    #expect(received.values == [128])
    #expect(sent.values == [128])
    withExtendedLifetime(metrics) {}
  }

  @Test func `a batch for sending has as many datagrams as the kernel makes of it`() throws {
    let batch = DatagramBatch(
      segmentSize: 1200,
      remote: try SocketAddress(ipAddress: "192.0.2.1", port: 1),
      ecn: 0
    )
    #expect([1, 1200, 1201, 2400, 12_001].map(batch.count) == [1, 1, 2, 2, 11])
  }

  @Test func `instruments go with their owner`() {
    do {
      let metrics = QUICMetrics(transport: "t", factory: factory)
      let gauges = metrics.pathSamples(loop: 0)
      #expect(factory.recorders.count == 5)
      withExtendedLifetime(gauges) {}
    }
    #expect(factory.counters.isEmpty && factory.meters.isEmpty)
    #expect(factory.recorders.isEmpty && factory.timers.isEmpty)
  }

  @Test func `each way to end has a cause`() {
    #expect(QUICCloseCause(.closedByPeer(code: 0, isApplication: true)) == .closedByPeer)
    #expect(QUICCloseCause(.closedByPeer(code: 1, isApplication: false)) == .peerError)
    #expect(QUICCloseCause(.statelessReset) == .statelessReset)
    #expect(QUICCloseCause(.idleTimeout) == .idleTimeout)
    #expect(QUICCloseCause(.socket(.refused, "")) == .unreachable)
    #expect(QUICHandshakeResult(.tls("x"), isRefusal: false) == .tls)
    #expect(QUICHandshakeResult(.handshakeTimeout, isRefusal: false) == .timeout)
  }
}
