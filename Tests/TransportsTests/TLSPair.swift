import Logging
import MagicalaneCore
import NIOCore
import NIOEmbedded

@testable import MagicalaneTransports

/// The socket's side of a pipeline under test: notes which reads are asked for.
final class SocketProbe: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer

  private(set) var reads = 0
  var wantsRead = false

  func read(context: ChannelHandlerContext) {
    reads += 1
    wantsRead = true
    context.read()
  }
}

/// The last handler of a pipeline under test: keeps what arrives, in order.
final class StreamRecorder: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  enum Happening: Equatable {
    case bytes(Int)
    case inputClosed
    case outputClosed
    case error(String)
    case inactive
  }

  private(set) var bytes: [UInt8] = []
  private(set) var happenings: [Happening] = []
  private(set) var errors: [any Error] = []
  /// Asks for the next batch after each, as a stream that is drained does.
  var readsOn: Bool

  init(readsOn: Bool) {
    self.readsOn = readsOn
  }

  func channelActive(context: ChannelHandlerContext) {
    if readsOn { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let batch = unwrapInboundIn(data)
    happenings.append(.bytes(batch.readableBytes))
    bytes += batch.readableBytesView
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if readsOn { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event as? ChannelEvent {
    case .inputClosed?: happenings.append(.inputClosed)
    case .outputClosed?: happenings.append(.outputClosed)
    case nil: ()
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    errors.append(error)
    happenings.append(.error((error as? TLSError)?.kind.rawValue ?? "\(error)"))
  }

  func channelInactive(context: ChannelHandlerContext) {
    happenings.append(.inactive)
  }

  var tlsError: TLSError? { errors.first as? TLSError }
}

/// One end of a TLS connection without sockets.
final class TLSEnd {
  let loop = EmbeddedEventLoop()
  let channel: EmbeddedChannel
  let handler: GnuTLSHandler
  let recorder: StreamRecorder
  let probe = SocketProbe()
  let handshake: EventLoopFuture<Void>
  /// Ciphertext on its way to this end.
  var wire = ByteBuffer()
  var sentBytes = 0
  /// How often the socket was given bytes.
  var writes = 0

  init(
    _ role: TLSSession.Role,
    applicationProtocol: String,
    tickets: SessionTickets? = nil,
    readsOn: Bool,
    metrics: TLSMetrics? = nil
  ) throws {
    channel = EmbeddedChannel(loop: loop)
    recorder = StreamRecorder(readsOn: readsOn)
    let promise = loop.makePromise(of: Void.self)
    handshake = promise.futureResult
    let session = try TLSSession(role, applicationProtocol: applicationProtocol)
    handler = GnuTLSHandler(session, tickets: tickets, handshakePromise: promise, metrics: metrics)
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandlers([probe, handler, recorder])
  }

  deinit {
    channel.close(promise: nil)
    // A peer that was refused gets time to read the alert.
    loop.advanceTime(by: .seconds(2))
  }

  func activate() throws {
    try channel.connect(to: SocketAddress(unixDomainSocketPath: "/test")).wait()
  }

  func takeOutput() throws -> ByteBuffer {
    var all = ByteBuffer()
    while var bytes = try channel.readOutbound(as: ByteBuffer.self) {
      writes += 1
      all.writeBuffer(&bytes)
    }
    sentBytes += all.readableBytes
    return all
  }

  /// Hands up to `count` bytes of the wire to the pipeline, asked for or not.
  func deliver(_ count: Int) throws {
    guard let bytes = wire.readSlice(length: min(count, wire.readableBytes)), bytes.readableBytes > 0 else {
      return
    }
    probe.wantsRead = false
    channel.pipeline.fireChannelRead(bytes)
    channel.pipeline.fireChannelReadComplete()
  }

  /// What a socket says after the peer's FIN.
  func endSocketInput() {
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
  }

  @discardableResult
  func write(_ bytes: [UInt8], flush: Bool = true) -> EventLoopFuture<Void> {
    let promise = loop.makePromise(of: Void.self)
    channel.write(ByteBuffer(bytes: bytes), promise: promise)
    if flush { channel.flush() }
    return promise.futureResult
  }

  @discardableResult
  func endOutput() -> EventLoopFuture<Void> {
    channel.close(mode: .output)
  }

  func read() {
    channel.pipeline.read()
  }
}

/// A client and a server back to back, with a wire between them that carries only what was asked for.
final class TLSPair {
  let client: TLSEnd
  let server: TLSEnd

  init(
    _ credentials: TLSTestCredentials,
    tickets: SessionTickets? = nil,
    applicationProtocol: String = "http/1.1",
    clientReads: Bool = true,
    serverReads: Bool = true,
    clientMetrics: TLSMetrics? = nil,
    serverMetrics: TLSMetrics? = nil
  ) throws {
    client = try TLSEnd(
      .client(credentials.client, ticket: tickets?.take()),
      applicationProtocol: applicationProtocol,
      tickets: tickets,
      readsOn: clientReads,
      metrics: clientMetrics
    )
    server = try TLSEnd(
      .server(credentials.server),
      applicationProtocol: "http/1.1",
      readsOn: serverReads,
      metrics: serverMetrics
    )
    try server.activate()
    try client.activate()
  }

  /// Moves bytes until nothing moves any more.
  func pump(chunk: Int = .max) throws {
    while try step(from: client, to: server, chunk) || step(from: server, to: client, chunk) {}
  }

  private func step(from source: TLSEnd, to sink: TLSEnd, _ chunk: Int) throws -> Bool {
    var output = try source.takeOutput()
    sink.wire.writeBuffer(&output)
    guard sink.probe.wantsRead, sink.wire.readableBytes > 0 else { return false }
    try sink.deliver(chunk)
    return true
  }

  /// Moves what the client sent to the server's wire and hands it over by `body`.
  func intercept(_ body: (inout ByteBuffer) -> Void) throws {
    var output = try client.takeOutput()
    server.wire.writeBuffer(&output)
    body(&server.wire)
  }
}

/// The credentials of both ends of a pair.
struct TLSTestCredentials {
  let client: TLSClientCredentials
  let server: TLSServerCredentials

  static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// A server with a new certificate of its own for `hosts`, and a client whose options may depend on it.
  ///
  /// - Parameters:
  ///   - trust: the client's options; trusts the certificate by `ca` where nil.
  ///   - clientCertificate: what the client shows.
  ///   - acceptedClient: what the server asks clients for.
  init(
    hosts: [String] = ["proxy.example", "192.0.2.7", "2001:db8::7"],
    validity: Duration = .seconds(3600),
    server host: Host = .name("proxy.example"),
    trust: ((SelfSignedCertificate) -> TLSClientOptions)? = nil,
    clientCertificate: SelfSignedCertificate? = nil,
    acceptedClient: SelfSignedCertificate? = nil
  ) throws {
    let directory = try TemporaryDirectory()
    let certificate = try SelfSignedCertificate.make(hosts: hosts, validity: validity)
    _ = try certificate.write(to: directory.path)
    var options = trust?(certificate) ?? TLSClientOptions(ca: "cert.pem")
    if let clientCertificate {
      options.certificate = FilePath(try directory.write(clientCertificate.certificatePEM, to: "client.crt"))
      options.key = FilePath(try directory.write(clientCertificate.keyPEM, to: "client.key"))
    }
    var serverOptions = TLSServerOptions(certificate: "cert.pem", key: "key.pem")
    if let acceptedClient {
      serverOptions.clientCa = FilePath(
        try directory.write(acceptedClient.certificatePEM, to: "accepted.crt")
      )
    }
    server = try TLSServerCredentials(options: serverOptions, directory: directory.path)
    client = try TLSClientCredentials(
      options: options,
      host: host,
      directory: directory.path,
      logger: TLSTestCredentials.quiet
    )
  }
}

/// A future that had to be complete by now and is not.
struct StillPending: Error {}

extension EventLoopFuture where Value: Sendable {
  /// The value, without waiting: on an embedded loop nothing would ever complete a future that is pending.
  func now() throws -> Value {
    var found: Result<Value, any Error>?
    assumeIsolated().whenComplete { found = $0 }
    guard let found else { throw StillPending() }
    return try found.get()
  }
}
