import MagicalaneCore
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

@Suite("TLS handshakes")
struct TLSHandshakeTests {
  /// Runs a handshake, and a byte up, which shows a client certificate's refusal too.
  private func handshake(_ credentials: TLSTestCredentials, protocol name: String = "http/1.1") throws
    -> TLSPair
  {
    let pair = try TLSPair(credentials, applicationProtocol: name)
    try pair.pump()
    pair.client.write([7])
    try pair.pump()
    return pair
  }

  private func succeeds(_ credentials: TLSTestCredentials) throws -> Bool {
    try handshake(credentials).server.recorder.bytes == [7]
  }

  /// What the client says of a server that it refuses; the server must learn of it by an alert.
  private func clientRefusal(_ credentials: TLSTestCredentials) throws -> String? {
    let pair = try handshake(credentials)
    #expect(pair.client.recorder.tlsError?.kind == .certificateRefused)
    #expect(pair.server.recorder.tlsError?.kind == .alertReceived)
    #expect(throws: TLSError.self) { try pair.client.handshake.now() }
    #expect(pair.server.recorder.bytes.isEmpty)
    return pair.client.recorder.tlsError?.message
  }

  @Test("a certificate is good for each of its names and addresses")
  func names() throws {
    let six = try #require(IPAddress("2001:db8::7"))
    let four = try #require(IPAddress("192.0.2.7"))
    for host in [Host.name("proxy.example"), .name("PROXY.example."), .address(four), .address(six)] {
      #expect(try succeeds(TLSTestCredentials(server: host)), "\(host)")
    }
    let wildcard = try TLSTestCredentials(hosts: ["*.site.example"], server: .name("proxy.site.example"))
    #expect(try succeeds(wildcard))
  }

  @Test("a certificate for another name or address is refused")
  func wrongName() throws {
    let four = try #require(IPAddress("192.0.2.8"))
    for host in [Host.name("other.example"), .name("a.proxy.example"), .address(four)] {
      let refusal = try clientRefusal(TLSTestCredentials(server: host))
      #expect(refusal?.contains("it is not for \(host)") == true)
    }
  }

  @Test("server_name takes the place of the server's host")
  func serverName() throws {
    let host = Host.name("elsewhere.example")
    let named = try TLSTestCredentials(server: host) { _ in
      TLSClientOptions(serverName: "proxy.example", ca: "cert.pem")
    }
    #expect(try succeeds(named))
  }

  @Test("a certificate that nobody trusts is refused")
  func unknownAuthority() throws {
    let directory = try TemporaryDirectory()
    let other = try SelfSignedCertificate.make(hosts: ["other.example"]).write(to: directory.path)
    let refusal = try clientRefusal(TLSTestCredentials { _ in TLSClientOptions(ca: other.certificate) })
    #expect(refusal?.contains("no trusted authority signed it") == true, "\(refusal ?? "")")
  }

  @Test("an expired certificate is refused, and says so")
  func expired() throws {
    let refusal = try clientRefusal(TLSTestCredentials(validity: .seconds(-1800)))
    #expect(refusal?.contains("it has expired") == true)
  }

  @Test("a pin is enough, whatever the certificate says, and another key is refused")
  func pins() throws {
    let other = try SelfSignedCertificate.make(hosts: ["proxy.example"]).pinSHA256
    let host = Host.name("other.example")
    #expect(
      try succeeds(
        TLSTestCredentials(validity: .seconds(-1800), server: host) {
          TLSClientOptions(pinSha256: [other, $0.pinSHA256])
        }
      )
    )
    let refusal = try clientRefusal(TLSTestCredentials { _ in TLSClientOptions(pinSha256: [other]) })
    #expect(refusal?.contains("is not among those in pin_sha256") == true)
  }

  @Test("insecure takes any certificate")
  func insecure() throws {
    let host = Host.name("other.example")
    #expect(
      try succeeds(
        TLSTestCredentials(validity: .seconds(-1800), server: host) { _ in TLSClientOptions(insecure: true) }
      )
    )
  }

  @Test("a server that asks for client certificates takes those that its authorities signed, and no others")
  func clientCertificates() throws {
    let known = try SelfSignedCertificate.make(hosts: ["client.example"])
    let stranger = try SelfSignedCertificate.make(hosts: ["client.example"])
    #expect(try succeeds(TLSTestCredentials(clientCertificate: known, acceptedClient: known)))
    for shown in [nil, stranger] {
      let pair = try handshake(TLSTestCredentials(clientCertificate: shown, acceptedClient: known))
      #expect(pair.server.recorder.tlsError?.kind == .certificateRefused)
      #expect(pair.server.recorder.bytes.isEmpty)
      #expect(pair.client.recorder.tlsError?.kind == .alertReceived)
    }
  }

  @Test("a client that offers only other application protocols is refused")
  func applicationProtocol() throws {
    let pair = try handshake(TLSTestCredentials(), protocol: "gopher/1")
    #expect(pair.server.recorder.tlsError?.kind == .noApplicationProtocol)
    #expect(pair.client.recorder.tlsError?.message.contains("application protocol") == true)
  }

  @Test("a session is resumed by the ticket of an earlier one, which is used once")
  func resumption() throws {
    let credentials = try TLSTestCredentials()
    let tickets = SessionTickets()
    let resumed = try (0..<3).map { _ in
      let pair = try TLSPair(credentials, tickets: tickets)
      try pair.pump()
      pair.server.write([1])
      try pair.pump()
      #expect(pair.client.recorder.bytes == [1])
      #expect(pair.client.handler.isResumed == pair.server.handler.isResumed)
      return pair.client.handler.isResumed
    }
    #expect(resumed == [false, true, true])
    #expect(tickets.take() != nil)
    #expect(tickets.take() == nil)
  }

  @Test("a server with a new ticket key answers an old ticket with a full handshake")
  func staleTicket() throws {
    let tickets = SessionTickets()
    let first = try TLSTestCredentials { _ in TLSClientOptions(insecure: true) }
    let old = try TLSPair(first, tickets: tickets)
    try old.pump()
    old.server.write([1])
    try old.pump()
    let second = try TLSPair(TLSTestCredentials { _ in TLSClientOptions(insecure: true) }, tickets: tickets)
    try second.pump()
    try second.client.handshake.now()
    #expect(!second.client.handler.isResumed)
  }

  @Test("request and answer cost two writes at each end, handshake and ticket included")
  func flights() throws {
    let tickets = SessionTickets()
    for _ in 0..<2 {
      let pair = try TLSPair(TLSTestCredentials { _ in TLSClientOptions(insecure: true) }, tickets: tickets)
      let client = pair.client
      client.handshake.assumeIsolated().whenSuccess { client.write([1, 2, 3]) }
      try pair.pump()
      #expect(pair.server.recorder.bytes == [1, 2, 3])
      #expect(client.writes == 2)
      #expect(pair.server.writes == 1)
      pair.server.write([4])
      try pair.pump()
      #expect(client.recorder.bytes == [4])
      #expect(client.writes == 2)
      #expect(pair.server.writes == 2)
    }
    #expect(tickets.take() != nil)
  }

  @Test("a client that gets no answer has a ticket a little later")
  func lateTicket() throws {
    let tickets = SessionTickets()
    let pair = try TLSPair(TLSTestCredentials(), tickets: tickets)
    try pair.pump()
    #expect(tickets.take() == nil)
    pair.server.loop.advanceTime(by: .milliseconds(100))
    try pair.pump()
    #expect(tickets.take() != nil)
  }

  @Test("a client that closes as soon as it is connected ends what it wrote before")
  func closedInHandshake() throws {
    let pair = try TLSPair(TLSTestCredentials())
    let client = pair.client
    client.handshake.assumeIsolated().whenSuccess {
      client.write([1, 2, 3])
      client.channel.close(promise: nil)
    }
    try pair.pump()
    #expect(pair.server.recorder.happenings == [.bytes(3), .inputClosed])
    #expect(pair.server.recorder.errors.isEmpty)
  }

  @Test("a peer that closes during the handshake is an error")
  func closedEarly() throws {
    let credentials = try TLSTestCredentials()
    let pair = try TLSPair(credentials)
    pair.client.endSocketInput()
    #expect(pair.client.recorder.happenings == [.error("truncated"), .inactive])
    #expect(throws: TLSError.self) { try pair.client.handshake.now() }
    pair.server.channel.pipeline.fireChannelInactive()
    #expect(pair.server.recorder.happenings == [.error("truncated"), .inactive])
  }

  @Test("a refused peer has a second to read the alert, then the socket is closed")
  func linger() throws {
    let credentials = try TLSTestCredentials(server: .name("other.example"))
    let pair = try TLSPair(credentials)
    try pair.pump()
    #expect(pair.client.recorder.tlsError?.kind == .certificateRefused)
    pair.client.channel.close(promise: nil)
    #expect(pair.client.channel.isActive)
    pair.client.loop.advanceTime(by: .seconds(1))
    #expect(!pair.client.channel.isActive)
  }
}

/// A generator whose numbers are the same in every run, so that a failure can be run again.
private struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

@Suite("TLS against garbage")
struct TLSGarbageTests {
  let credentials: TLSTestCredentials

  init() throws {
    credentials = try TLSTestCredentials()
  }

  @Test("garbage in place of a ClientHello is an error that reaches the handlers behind")
  func garbageHello() throws {
    var random = SplitMix(state: 1)
    let inputs: [[UInt8]] =
      [Array("GET / HTTP/1.1\r\n\r\n".utf8), [UInt8](repeating: 65, count: 65536), [22, 3, 1, 255, 255]]
      + (0..<50).map { _ in (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) } }
    for input in inputs {
      let pair = try TLSPair(credentials)
      pair.server.wire = ByteBuffer(bytes: input)
      try pair.server.deliver(.max)
      pair.server.endSocketInput()
      #expect(pair.server.recorder.errors.count == 1, "\(input.prefix(8))")
      #expect(!pair.server.channel.isActive)
    }
  }

  @Test("a handshake with one byte changed fails or is unharmed, and never crashes")
  func flippedHandshake() throws {
    var random = SplitMix(state: 2)
    for _ in 0..<150 {
      let pair = try TLSPair(credentials)
      try pair.intercept { wire in
        let index = wire.readerIndex + Int.random(in: 0..<wire.readableBytes, using: &random)
        wire.setInteger(UInt8.random(in: 0...255, using: &random), at: index)
      }
      try pair.pump()
      pair.server.endSocketInput()
      #expect(!pair.server.channel.isActive)
      #expect(pair.server.recorder.errors.count == 1)
    }
  }

  @Test("a changed record is an error, and nothing of it is delivered")
  func flippedRecord() throws {
    var random = SplitMix(state: 3)
    for _ in 0..<150 {
      let pair = try TLSPair(credentials)
      try pair.pump()
      pair.client.write([UInt8](repeating: 1, count: 400))
      try pair.intercept { wire in
        let index = wire.readerIndex + Int.random(in: 0..<wire.readableBytes, using: &random)
        let old = wire.getInteger(at: index, as: UInt8.self) ?? 0
        wire.setInteger(old ^ UInt8(1) << Int.random(in: 0..<8, using: &random), at: index)
      }
      try pair.server.deliver(.max)
      pair.server.endSocketInput()
      #expect(pair.server.recorder.bytes.isEmpty)
      #expect(pair.server.recorder.errors.count == 1)
    }
  }
}
