import Logging
import MagicalaneCore
import NIOCore

@testable import MagicalaneTransports

/// Credentials that trust each other, made once for all tests.
enum QUICTestCredentials {
  static let made = Result { try make() }

  struct Pair: Sendable {
    let client: TLSClientCredentials
    let server: TLSServerCredentials
    let pin: String
    let certificate: String
    let key: String
  }

  static func pair() throws -> Pair { try made.get() }

  private static func make() throws -> Pair {
    let directory = NSTemporaryName.directory()
    let certificate = try SelfSignedCertificate.make(hosts: ["localhost", "127.0.0.1", "::1"])
    let files = try certificate.write(to: directory, overwrite: true)
    let client = try TLSClientCredentials(
      options: TLSClientOptions(pinSha256: [certificate.pinSHA256]),
      host: .name("localhost"),
      directory: directory,
      logger: Logger(label: "test")
    )
    let server = try TLSServerCredentials(
      options: TLSServerOptions(certificate: files.certificate, key: files.key),
      directory: directory
    )
    return Pair(
      client: client,
      server: server,
      pin: certificate.pinSHA256,
      certificate: files.certificate,
      key: files.key
    )
  }
}

enum NSTemporaryName {
  static func directory() -> String {
    "/tmp/magicalane-quic-tests-\(UInt64.random(in: 0 ... .max))"
  }
}

/// A small generator whose numbers follow from its seed, so that a failing test fails again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }
}

/// One end of a connection in a test, with what it was told.
final class QUICTestEnd {
  let connection: QUICConnection
  var events: [QUICConnection.Event] = []
  var opened: [QUICStream] = []
  var closed: QUICConnectionError?
  var isEstablished = false
  var token: [UInt8] = []
  /// Called for each stream with news, after every step.
  var onChange: (QUICStream) -> Void = { _ in }
  let path: QUICPath

  init(_ connection: QUICConnection, local: SocketAddress, remote: SocketAddress) {
    self.connection = connection
    path = QUICPath(local: local, remote: remote)
  }

  func settle() {
    let events = connection.events
    connection.events = []
    for event in events {
      switch event {
      case .established: isEstablished = true
      case .streamOpened(let stream): opened.append(stream)
      case .closed(let error): closed = error
      case .tokenReceived(let token): self.token = token
      default: break
      }
    }
    self.events += events
    let changed = connection.changed
    connection.changed = []
    for stream in changed {
      stream.isMarkedChanged = false
      onChange(stream)
    }
  }

  func timeout(now: UInt64) {
    if connection.isDue(now: now) { connection.timeout(now: now) }
  }

  var connectionIDs: Int {
    events.reduce(0) { count, event in
      switch event {
      case .connectionIDAdded: count + 1
      case .connectionIDRetired: count - 1
      default: count
      }
    }
  }
}

/// Two connections joined by a link in memory, with a clock of its own.
final class QUICTestLink {
  static let clientAddress = IPAddress.v4(0x0a00_0001).socketAddress(port: 1111)
  static let serverAddress = IPAddress.v4(0x0a00_0002).socketAddress(port: 443)

  enum Fate {
    case deliver
    case drop
    case delay(UInt64)
    case change([UInt8])
  }

  private struct Flight {
    var due: UInt64
    var order: Int
    var toServer: Bool
    var bytes: [UInt8]
    var ecn: UInt8
  }

  var now: UInt64 = 1_000_000_000
  let client: QUICTestEnd
  var server: QUICTestEnd?
  var serverSettings: QUICSettings
  let credentials: QUICTestCredentials.Pair
  let tokens = AddressTokens()
  let resetSecret = randomBytes(32)
  /// One way.
  var latency: UInt64 = 5_000_000
  /// What becomes of each datagram.
  var fate: (_ toServer: Bool, _ number: Int, _ bytes: [UInt8]) -> Fate = { _, _, _ in .deliver }
  /// The address that the client sends from.
  var clientAddress = QUICTestLink.clientAddress
  private var flights: [Flight] = []
  private var sent = 0
  var datagramsToServer = 0
  /// Datagrams that were sent before, byte for byte.
  private(set) var repeated = 0
  private var known: Set<[UInt8]> = []

  init(
    client settings: QUICSettings = QUICSettings(),
    server: QUICSettings = QUICTestLink.defaultServer,
    token: [UInt8] = [],
    ticket: [UInt8]? = nil,
    pair: QUICTestCredentials.Pair? = nil
  ) throws {
    credentials = try pair ?? QUICTestCredentials.pair()
    serverSettings = server
    let parts = QUICConnection.Parts(
      settings: settings,
      ids: ConnectionIDSource(loop: 0, resetSecret: randomBytes(32)),
      local: QUICTestLink.clientAddress,
      remote: QUICTestLink.serverAddress,
      now: now,
      log: nil
    )
    client = QUICTestEnd(
      try QUICConnection(client: credentials.client, ticket: ticket, token: token, parts),
      local: QUICTestLink.clientAddress,
      remote: QUICTestLink.serverAddress
    )
  }

  static var defaultServer: QUICSettings {
    var settings = QUICSettings()
    settings.maxStreams = 100
    return settings
  }

  /// Runs until `condition` holds, or nothing can happen any more, or `limit` nanoseconds passed.
  @discardableResult
  func run(for limit: UInt64 = 60_000_000_000, until condition: () -> Bool = { false }) -> Bool {
    let end = now + limit
    while true {
      settle()
      if condition() { return true }
      pump(client, toServer: true)
      if let server { pump(server, toServer: false) }
      settle()
      if condition() { return true }
      guard let next = nextTime(), next <= end else {
        now = max(now, min(end, nextTime() ?? end))
        return condition()
      }
      now = max(now + 1000, next)
      deliver()
      client.timeout(now: now)
      server?.timeout(now: now)
    }
  }

  private func settle() {
    client.settle()
    server?.settle()
  }

  private func nextTime() -> UInt64? {
    [flights.map(\.due).min(), client.connection.wakeUp(now: now), server?.connection.wakeUp(now: now)]
      .compactMap { $0 }.min()
  }

  private func pump(_ end: QUICTestEnd, toServer: Bool) {
    var isMore = true
    while isMore {
      end.connection.beginBurst()
      while true {
        var bytes = ByteBuffer()
        guard let batch = end.connection.nextBatch(into: &bytes, now: now) else { break }
        while let packet = bytes.readBytes(length: min(batch.segmentSize, bytes.readableBytes)),
          !packet.isEmpty
        {
          send(packet, toServer: toServer, ecn: batch.ecn)
        }
      }
      isMore = end.connection.endBurst(now: now)
    }
  }

  /// Puts one datagram on the link.
  func send(_ packet: [UInt8], toServer: Bool, ecn: UInt8 = 0) {
    sent += 1
    if toServer { datagramsToServer += 1 }
    if !known.insert(packet).inserted { repeated += 1 }
    var flight = Flight(due: now + latency, order: sent, toServer: toServer, bytes: packet, ecn: ecn)
    switch fate(toServer, sent, packet) {
    case .deliver: break
    case .drop: return
    case .delay(let more): flight.due += more
    case .change(let bytes): flight.bytes = bytes
    }
    flights.append(flight)
  }

  private func deliver() {
    let due = flights.filter { $0.due <= now }.sorted { ($0.due, $0.order) < ($1.due, $1.order) }
    flights.removeAll { $0.due <= now }
    for flight in due where !flight.bytes.isEmpty {
      if flight.toServer { receiveAtServer(flight.bytes, ecn: flight.ecn) } else { receiveAtClient(flight) }
    }
  }

  private func receiveAtClient(_ flight: Flight) {
    flight.bytes.withUnsafeBytes { client.connection.receive($0, on: client.path, ecn: flight.ecn, now: now) }
  }

  private func receiveAtServer(_ bytes: [UInt8], ecn: UInt8) {
    if server == nil { server = accept(bytes) }
    let path = QUICPath(local: QUICTestLink.serverAddress, remote: clientAddress)
    guard let server else { return }
    bytes.withUnsafeBytes { server.connection.receive($0, on: path, ecn: ecn, now: now) }
  }

  private func accept(_ bytes: [UInt8]) -> QUICTestEnd? {
    let parts = QUICConnection.Parts(
      settings: serverSettings,
      ids: ConnectionIDSource(loop: 1, resetSecret: resetSecret),
      local: QUICTestLink.serverAddress,
      remote: clientAddress,
      now: now,
      log: nil
    )
    let credentials = self.credentials
    let tokens = self.tokens
    return bytes.withUnsafeBytes { raw in
      guard let header = QUICPacket.firstHeader(raw) else { return nil }
      guard
        let connection = try? QUICConnection(
          server: credentials.server,
          header: header,
          original: nil,
          isValidated: false,
          tokens: tokens,
          parts
        )
      else { return nil }
      return QUICTestEnd(connection, local: QUICTestLink.serverAddress, remote: clientAddress)
    }
  }

  /// Runs the handshake.
  @discardableResult
  func handshake() -> Bool {
    run(for: 10_000_000_000) { client.isEstablished && server?.isEstablished == true }
  }
}

/// Bytes that differ from place to place, so that a lost or doubled piece shows.
func pattern(_ count: Int, seed: Int = 0) -> ByteBuffer {
  var buffer = ByteBufferAllocator().buffer(capacity: count)
  var word = UInt64(truncatingIfNeeded: seed)
  while buffer.readableBytes + 8 <= count {
    word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    buffer.writeInteger(word)
  }
  buffer.writeRepeatingByte(UInt8(truncatingIfNeeded: seed), count: count - buffer.readableBytes)
  return buffer
}

extension QUICConnection {
  /// Every batch that has arrived, in one.
  func takeAll(from stream: QUICStream) -> ByteBuffer {
    var all = ByteBuffer()
    while stream.received.readableBytes > 0 { all.writeImmutableBuffer(take(from: stream)) }
    return all
  }
}
