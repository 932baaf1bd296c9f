import DequeModule
import Logging
import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// One UDP socket with the QUIC connections that share it: the handler of its datagram channel.
///
/// It takes apart what the kernel joined (GRO), finds each datagram's connection by the connection ID, and
/// serves every connection that got one once, when the whole batch is read. Batches for sending go out as one
/// datagram each that the kernel splits (GSO), all in one flush.
final class QUICEndpoint: ChannelDuplexHandler {
  typealias InboundIn = AddressedEnvelope<ByteBuffer>
  typealias OutboundIn = AddressedEnvelope<ByteBuffer>
  typealias OutboundOut = AddressedEnvelope<ByteBuffer>

  /// The clock of all connections, in nanoseconds.
  static var now: UInt64 { NIODeadline.now().uptimeNanoseconds }

  let loop: any EventLoop
  let logger: Logger
  /// Deals with datagrams that belong to no connection; nil on clients.
  var stranger: ((_ datagram: Datagram) -> Void)?
  /// The socket is gone though nobody closed it.
  var socketLost: ((any Error) -> Void)?
  /// The peer's host says that nothing listens there: how often, since something arrived.
  var refused: ((Int) -> Void)?
  /// Where datagrams and new connections are counted.
  var metrics: QUICMetrics?
  /// Tells the loops of a transport apart, in metrics.
  let loopNumber: Int
  /// The datagram channel; nil while there is none.
  private(set) var channel: (any Channel)?

  private var context: ChannelHandlerContext?
  private var routes: [ConnectionID: QUICDriver] = [:]
  private var drivers: [ObjectIdentifier: QUICDriver] = [:]
  private var dirty: Deque<QUICDriver> = []
  private var waitingForSocket: [QUICDriver] = []
  private var isReading = false
  private var isForwarding = false
  private var isFlushNeeded = false
  private var isClosing = false
  private var lastError: (any Error)?
  private var refusals = 0
  /// Datagrams that the metrics do not know of yet.
  private var sent = 0
  private var received = 0
  private let path = QUICPath()
  private var pathAddresses: (local: SocketAddress, remote: SocketAddress)?
  private var buffers: Deque<ByteBuffer> = []

  /// One datagram that was not for a connection here.
  struct Datagram {
    /// Borrowed for the call.
    var bytes: UnsafeRawBufferPointer
    var destination: ConnectionID?
    var start: QUICPacket.Start
    var remote: SocketAddress
    var ecn: UInt8
    var path: QUICPath
    var now: UInt64
    /// Another socket of the port handed it over.
    var isForwarded: Bool
  }

  init(on loop: any EventLoop, logger: Logger, metrics: QUICMetrics? = nil, loopNumber: Int = 0) {
    self.loop = loop
    self.logger = logger
    self.metrics = metrics
    self.loopNumber = loopNumber
  }

  // MARK: Connections

  var connections: [QUICDriver] { Array(drivers.values) }

  func add(_ driver: QUICDriver) {
    drivers[ObjectIdentifier(driver)] = driver
    driver.needsService()
  }

  func remove(_ driver: QUICDriver) {
    drivers[ObjectIdentifier(driver)] = nil
    for id in driver.routes { routes[id] = nil }
  }

  func route(_ id: ConnectionID, to driver: QUICDriver) {
    routes[id] = driver
  }

  func unroute(_ id: ConnectionID) {
    routes[id] = nil
  }

  /// Puts a driver among those that are served at the end of the batch that is being read.
  ///
  /// - Returns: false where no batch is being read.
  func markDirty(_ driver: QUICDriver) -> Bool {
    guard isReading else { return false }
    if !driver.isMarkedDirty {
      driver.isMarkedDirty = true
      dirty.append(driver)
    }
    return true
  }

  // MARK: The socket

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    channel = context.channel
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    if self.context === context { self.context = nil }
  }

  func channelInactive(context: ChannelHandlerContext) {
    channel = nil
    self.context = nil
    if !isClosing { socketLost?(lastError ?? ChannelError.eof) }
    lastError = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    logger.debug("UDP socket error", metadata: ["error": "\(error)"])
    lastError = error
    if (error as? IOError)?.errnoCode == ECONNREFUSED {
      refusals += 1
      refused?(refusals)
    }
  }

  /// To close the channel is to close its connections; their peers are told.
  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    isClosing = true
    for driver in connections { driver.close() }
    flushNow()
    context.close(mode: mode, promise: promise)
  }

  /// Closes the channel, where there still is one.
  func close() {
    isClosing = true
    channel?.close(promise: nil)
  }

  /// Closes all connections, each once what its ended streams left to send has arrived, and then the channel.
  func close(within limit: TimeAmount) -> EventLoopFuture<Void> {
    let closed = connections.filter(\.connection.isOpen).map { driver in
      let promise = loop.makePromise(of: Void.self)
      let last = driver.callbacks.closed
      driver.callbacks.closed = { error in
        last(error)
        promise.succeed()
      }
      return (driver, promise.futureResult)
    }
    for (driver, _) in closed { driver.finish(within: limit) }
    return EventLoopFuture.andAllComplete(closed.map(\.1), on: loop).assumeIsolated().flatMap {
      self.isClosing = true
      return (self.channel?.close() ?? self.loop.makeSucceededVoidFuture())
    }.nonisolated()
  }

  /// Gives up the socket, but not the connections.
  func loseSocket() {
    context?.close(promise: nil)
  }

  /// Puts another socket in place of a lost one, again and again until it works.
  ///
  /// Connections go on: their peers see that the address changed.
  func replaceSocket(
    after wait: TimeAmount = .milliseconds(50),
    _ open: @escaping () -> EventLoopFuture<any Channel>
  ) {
    guard !isClosing else { return }
    loop.assumeIsolated().scheduleTask(in: wait) {
      guard !self.isClosing, self.channel == nil else { return }
      open().assumeIsolated().whenComplete { result in
        switch result {
        case .success: self.moved()
        case .failure(let error):
          self.logger.debug("UDP socket cannot be replaced", metadata: ["error": "\(error)"])
          self.replaceSocket(after: min(wait * 2, .seconds(2)), open)
        }
      }
    }
  }

  private func moved() {
    pathAddresses = nil
    guard let local = channel?.localAddress else { return }
    for driver in connections { driver.moved(to: local) }
  }

  // MARK: In

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    isReading = true
    let envelope = unwrapInboundIn(data)
    let ecn = envelope.metadata?.ecnState.bits ?? 0
    let segmentSize = envelope.metadata?.segmentSize ?? 0
    receive(envelope.data, segmentSize: segmentSize, from: envelope.remoteAddress, ecn: ecn)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    endReading()
    context.fireChannelReadComplete()
  }

  /// Takes datagrams that arrived at another socket of the same port.
  func receiveForwarded(_ bytes: ByteBuffer, from remote: SocketAddress, ecn: UInt8) {
    isReading = true
    isForwarding = true
    receive(bytes, segmentSize: 0, from: remote, ecn: ecn)
    isForwarding = false
    endReading()
  }

  /// Serves who got something; to serve one can give another something to do.
  private func endReading() {
    while let driver = dirty.popFirst() {
      driver.isMarkedDirty = false
      driver.service()
    }
    isReading = false
    flush()
    countDatagrams()
  }

  private func receive(_ bytes: ByteBuffer, segmentSize: Int, from remote: SocketAddress, ecn: UInt8) {
    // A datagram cannot be answered to port 0; the attempt would cost us the socket.
    guard let local = channel?.localAddress, remote.port != 0 else { return }
    setPath(local, remote)
    refusals = 0
    let now = QUICEndpoint.now
    bytes.withUnsafeReadableBytes { all in
      var rest = all[...]
      while !rest.isEmpty {
        let segment = rest.prefix(segmentSize > 0 ? segmentSize : rest.count)
        rest = rest.dropFirst(segment.count)
        received += isForwarding ? 0 : 1
        deliver(UnsafeRawBufferPointer(rebasing: segment), from: remote, ecn: ecn, now: now)
      }
    }
  }

  private func deliver(_ packet: UnsafeRawBufferPointer, from remote: SocketAddress, ecn: UInt8, now: UInt64)
  {
    let start = QUICPacket.start(of: packet)
    var id: ConnectionID?
    if case .known(let destination, _) = start {
      id = destination
      if let driver = routes[destination] {
        driver.receive(packet, on: path, ecn: ecn, now: now)
        _ = markDirty(driver)
        return
      }
    }
    stranger?(
      Datagram(
        bytes: packet,
        destination: id,
        start: start,
        remote: remote,
        ecn: ecn,
        path: path,
        now: now,
        isForwarded: isForwarding
      )
    )
  }

  private func setPath(_ local: SocketAddress, _ remote: SocketAddress) {
    if let known = pathAddresses, known.remote == remote, known.local == local { return }
    path.set(local: local, remote: remote)
    pathAddresses = (local, remote)
  }

  // MARK: Out

  /// Whether the socket takes more; where not, packets are not even made.
  var canSend: Bool { context?.channel.isWritable ?? false }

  /// Sends the connection's next batch.
  ///
  /// - Returns: false where it has nothing to send now.
  func send(from connection: QUICConnection, now: UInt64) -> Bool {
    var buffer = buffers.popFirst() ?? ByteBufferAllocator().buffer(capacity: QUICPacketOutput.maxBytes)
    // Where the socket still holds the buffer's last content, this takes new memory.
    buffer.clear(minimumCapacity: QUICPacketOutput.maxBytes)
    let batch = connection.nextBatch(into: &buffer, now: now)
    if let batch { send(buffer, batch) }
    if buffers.count < 8 { buffers.append(buffer) }
    return batch != nil
  }

  /// Sends one packet that belongs to no connection.
  func send(_ packet: [UInt8], to remote: SocketAddress) {
    guard canSend, !packet.isEmpty else { return }
    let batch = DatagramBatch(segmentSize: packet.count, remote: remote, ecn: 0)
    send(ByteBuffer(bytes: packet), batch)
  }

  private func send(_ bytes: ByteBuffer, _ batch: DatagramBatch) {
    guard let context else { return }
    var metadata = AddressedEnvelope<ByteBuffer>.Metadata(ecnState: .init(bits: batch.ecn))
    if bytes.readableBytes > batch.segmentSize { metadata.segmentSize = batch.segmentSize }
    let envelope = AddressedEnvelope(remoteAddress: batch.remote, data: bytes, metadata: metadata)
    context.write(wrapOutboundOut(envelope), promise: nil)
    sent += batch.count(of: bytes.readableBytes)
    isFlushNeeded = true
  }

  /// Sends what was written, unless a batch is being read, which ends with that.
  func flush() {
    if !isReading { flushNow() }
  }

  private func flushNow() {
    guard isFlushNeeded else { return }
    isFlushNeeded = false
    context?.flush()
    countDatagrams()
  }

  /// Per datagram there is an addition to a plain number, and this once per batch.
  private func countDatagrams() {
    metrics?.datagrams(sent: sent, received: received)
    (sent, received) = (0, 0)
  }

  func serveWhenWritable(_ driver: QUICDriver) {
    if !waitingForSocket.contains(where: { $0 === driver }) { waitingForSocket.append(driver) }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    guard canSend else { return }
    let waiting = waitingForSocket
    waitingForSocket = []
    for driver in waiting { driver.needsService() }
    context.fireChannelWritabilityChanged()
  }
}

extension NIOExplicitCongestionNotificationState {
  /// The two bits of the IP header (RFC 3168 §5).
  fileprivate var bits: UInt8 {
    switch self {
    case .transportNotCapable: 0
    case .transportCapableFlag1: 1
    case .transportCapableFlag0: 2
    case .congestionExperienced: 3
    }
  }

  fileprivate init(bits: UInt8) {
    switch bits & 3 {
    case 1: self = .transportCapableFlag1
    case 2: self = .transportCapableFlag0
    case 3: self = .congestionExperienced
    default: self = .transportNotCapable
    }
  }
}
