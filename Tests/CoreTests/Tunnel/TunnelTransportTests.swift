import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A tunnel whose streams are given by the test.
private struct TestTunnel: TunnelTransport {
  static let type = "test"
  var credentials: Credentials?
  private let stream: Result<any Channel, OpenError>
  private let asked = NIOLockedValueBox(0)
  /// How many streams were asked for.
  var opened: Int { asked.withLockedValue { $0 } }

  init(_ stream: Result<any Channel, OpenError>, credentials: Credentials? = nil) {
    self.stream = stream
    self.credentials = credentials
  }

  init(options: NoOptions, context: TransportContext) throws {
    throw PluginError("made by tests only")
  }

  func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    asked.withLockedValue { $0 += 1 }
    return loop.makeCompletedFuture(stream.mapError { $0 })
  }
}

@Suite struct TunnelTransportTests {
  let recorded: RecordedChannel
  var channel: EmbeddedChannel { recorded.channel }

  init() throws {
    recorded = try RecordedChannel()
  }

  /// The result so far of one `connect`.
  private final class Outcome {
    var result: Result<any Channel, any Error>?
    var kind: OpenError.Kind? {
      if case .failure(let error as OpenError) = result { error.kind } else { nil }
    }
    var isSuccess: Bool {
      if case .success = result { true } else { false }
    }
  }

  private func connect(
    through tunnel: TestTunnel? = nil,
    to target: Target? = Target("a.b:443"),
    policy: AddressPolicy = .unrestricted
  ) throws -> Outcome {
    let request = ConnectRequest(
      target: try #require(target),
      policy: policy,
      deadline: .uptimeNanoseconds(1000)
    )
    let outcome = Outcome()
    let tunnel = tunnel ?? TestTunnel(.success(channel))
    tunnel.connect(request, on: channel.eventLoop).assumeIsolated().whenComplete { outcome.result = $0 }
    channel.embeddedEventLoop.run()
    return outcome
  }

  private func sent() throws -> String? {
    try channel.readOutbound(as: ByteBuffer.self).map { String(buffer: $0) }
  }

  @Test func `the request goes out with the credentials, and the answer is asked for`() throws {
    let tunnel = TestTunnel(.success(channel), credentials: Credentials(user: "a", password: "b"))
    let reads = recorded.outbound.reads
    let outcome = try connect(through: tunnel)
    let request = try #require(try sent())
    #expect(request.hasPrefix("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n"))
    #expect(request.contains("Proxy-Authorization: Basic YTpi\r\n"))
    #expect(outcome.result == nil)
    #expect(recorded.outbound.reads == reads + 1)
  }

  @Test func `each batch that does not end the head asks for one more`() throws {
    let outcome = try connect()
    let reads = recorded.outbound.reads
    for byte in "HTTP/1.1 200 OK\r\n\r" { try recorded.send(String(byte)) }
    #expect(recorded.outbound.reads == reads + 17)
    #expect(outcome.result == nil)
    try recorded.send("\n")
    #expect(outcome.isSuccess)
    #expect(recorded.outbound.reads == reads + 17)
  }

  @Test func `bytes behind the answer and an end behind them wait for the next owner`() throws {
    let outcome = try connect()
    try recorded.send("HTTP/1.1 200 OK\r\n\r\nfirst")
    try recorded.send(" second")
    recorded.closeInput()
    #expect(outcome.isSuccess)
    #expect(!recorded.has(ConnectHandler.self))
    try channel.pipeline.syncOperations.addHandler(recorded.inbound)
    #expect(recorded.inbound.events.isEmpty)
    channel.pipeline.read()
    #expect(recorded.inbound.events == ["first second", "(complete)", "(closed)"])
    #expect(!recorded.has(ReplayHandler.self))
  }

  @Test func `an open tunnel outlives the deadline`() throws {
    let outcome = try connect()
    try recorded.send("HTTP/1.1 200 OK\r\n\r\n")
    channel.embeddedEventLoop.advanceTime(to: .uptimeNanoseconds(2000))
    #expect(outcome.isSuccess)
    #expect(channel.isActive)
  }

  @Test func `a refusal is typed, and the stream closed`() throws {
    let outcome = try connect()
    try recorded.send("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: p; error=connection_refused\r\n\r\nbody")
    #expect(outcome.kind == .refused)
    #expect(!channel.isActive)
    #expect(recorded.outbound.aborts == 0)
  }

  @Test func `garbage violates the protocol, and the stream is aborted`() throws {
    let outcome = try connect()
    try recorded.send("SSH-2.0-OpenSSH\r\n\r\n")
    #expect(outcome.kind == .protocolViolation)
    #expect(!channel.isActive)
    #expect(recorded.outbound.aborts == 1)
  }

  @Test func `no answer at the deadline is a time-out, and the stream is aborted`() throws {
    let outcome = try connect()
    try recorded.send("HTTP/1.1 200 OK\r\n")
    channel.embeddedEventLoop.advanceTime(to: .uptimeNanoseconds(999))
    #expect(outcome.result == nil)
    channel.embeddedEventLoop.advanceTime(to: .uptimeNanoseconds(1000))
    #expect(outcome.kind == .timedOut)
    #expect(!channel.isActive)
    #expect(recorded.outbound.aborts == 1)
  }

  @Test func `an end before the answer is a failure`() throws {
    let outcome = try connect()
    try recorded.send("HTTP/1.1 200 OK\r\n")
    recorded.closeInput()
    #expect(outcome.kind == .failed)
    #expect(!channel.isActive)
  }

  @Test func `a lost stream is a failure`() throws {
    let outcome = try connect()
    channel.close(promise: nil)
    #expect(outcome.kind == .failed)
  }

  @Test func `a reset of the tunnel's stream is not the target's refusal`() throws {
    let outcome = try connect()
    channel.pipeline.fireErrorCaught(IOError(errnoCode: ECONNRESET, reason: "read"))
    #expect(outcome.kind == .failed)
    #expect(!channel.isActive)
  }

  @Test func `an error that the transport has typed keeps its kind`() throws {
    let outcome = try connect()
    channel.pipeline.fireErrorCaught(OpenError(.unavailable, "x"))
    #expect(outcome.kind == .unavailable)
  }

  @Test func `a stream that cannot be opened fails as the transport says`() throws {
    #expect(try connect(through: TestTunnel(.failure(OpenError(.unavailable, "x")))).kind == .unavailable)
  }

  @Test func `a name that could break the head opens no stream`() throws {
    let tunnel = TestTunnel(.success(channel))
    let target = Target(host: .name("a.b:1 HTTP/1.1\r\nX: y"), port: 443)
    #expect(try connect(through: tunnel, to: target).kind == .nameNotResolved)
    #expect(tunnel.opened == 0)
  }

  @Test func `what the policy forbids opens no stream`() throws {
    let tunnel = TestTunnel(.success(channel))
    let policy = AddressPolicy(allowsLocal: false)
    #expect(try connect(through: tunnel, to: Target("127.0.0.1:80"), policy: policy).kind == .notAllowed)
    #expect(try connect(through: tunnel, to: Target("localhost:80"), policy: policy).kind == .notAllowed)
    #expect(tunnel.opened == 0)
  }
}
