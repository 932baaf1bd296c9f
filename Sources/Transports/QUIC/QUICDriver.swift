import DequeModule
import Logging
import MagicalaneCore
import NIOCore

/// Runs one connection on its event loop: hands it datagrams and the time, its news to streams, and its
/// packets to the socket.
///
/// Everything that happens asks for service; one service does it all once: after a batch of datagrams, after
/// the writes of many streams in one turn of the loop, or when the connection's deadline comes.
final class QUICDriver: QUICStreamHost {
  /// What the owner of a connection wants to know; all are called on the loop.
  struct Callbacks {
    var established: () -> Void = {}
    /// Takes a stream that the peer opened; nil where none may be opened.
    var accept: ((QUICStreamChannel) -> EventLoopFuture<Void>)?
    var tokenReceived: ([UInt8]) -> Void = { _ in }
    var closed: (QUICConnectionError) -> Void = { _ in }
  }

  /// Bursts in one service; the loop serves others in between.
  private static let burstsAtOnce = 4
  /// The shortest wait for a timer while the socket is full.
  private static let waitForSocket: UInt64 = 5_000_000

  let connection: QUICConnection
  var callbacks = Callbacks()
  /// It stands in the endpoint's list of drivers with news.
  var isMarkedDirty = false
  /// The IDs under which packets find it.
  private(set) var routes: Set<ConnectionID> = []
  private(set) var channels: [ObjectIdentifier: QUICStreamChannel] = [:]
  /// Held until the connection has ended.
  private(set) var endpoint: QUICEndpoint?
  private let loop: any EventLoop
  private let logger: Logger
  private let buffer: Int
  private var count: QUICConnectionCount?

  private var requests: Deque<QUICStreamRequest> = []
  private var isFinishing = false
  private var isDraining = false
  private var timer: Scheduled<Void>?
  private var timerDue: UInt64 = 0
  private var isInService = false
  private var isServiceScheduled = false

  /// Counts in the endpoint's metrics.
  ///
  /// - Parameter buffer: most bytes that may wait in one stream, per direction.
  init(_ connection: QUICConnection, endpoint: QUICEndpoint, buffer: Int, logger: Logger) {
    self.connection = connection
    self.endpoint = endpoint
    self.buffer = buffer
    self.logger = logger
    loop = endpoint.loop
    count = endpoint.metrics.map {
      QUICConnectionCount($0, loop: endpoint.loopNumber, now: QUICEndpoint.now)
    }
  }

  // MARK: In

  func receive(_ packet: UnsafeRawBufferPointer, on path: QUICPath, ecn: UInt8, now: UInt64) {
    connection.receive(packet, on: path, ecn: ecn, now: now)
  }

  /// Opens a stream; nil where that is not possible at once.
  func openNow() -> QUICStreamChannel? {
    guard requests.isEmpty, endpoint != nil, let stream = connection.openStream() else { return nil }
    let channel = makeChannel(stream)
    channel.activate()
    return channel
  }

  /// Opens a stream; where the peer allows no more for now, as soon as it does.
  func open(_ request: QUICStreamRequest) {
    requests.append(request)
    needsService()
  }

  /// Closes the connection at once, with what its streams still have to send.
  func close(code: UInt64 = QUICApplicationCode.none) {
    connection.close(code: code, now: QUICEndpoint.now)
    service()
  }

  /// Gives the connection up without a word, for the peer cannot hear us.
  func lose(_ error: QUICConnectionError) {
    connection.abandon(error)
    service()
  }

  /// Closes the connection once the peer has what ended streams left to send, or when `limit` is over.
  func finish(within limit: TimeAmount) {
    isFinishing = true
    loop.assumeIsolated().scheduleTask(in: limit) { self.close() }
    service()
  }

  /// Takes no more streams, and closes the connection once those that are open have ended.
  func drain() {
    isDraining = true
    connection.stopAcceptingStreams()
    service()
  }

  private var isDone: Bool {
    isFinishing && !connection.hasUnfinishedOutput(ofEndedStreams: true)
      || isDraining && channels.isEmpty && !connection.hasUnfinishedOutput(ofEndedStreams: false)
  }

  // MARK: Service

  func needsService() {
    guard !isInService, !isServiceScheduled, !isMarkedDirty, endpoint != nil else { return }
    if endpoint?.markDirty(self) == true { return }
    isServiceScheduled = true
    loop.assumeIsolated().execute {
      self.isServiceScheduled = false
      self.service()
    }
  }

  /// Does everything that is due: tells what happened, sends what may be sent, sets the timer.
  func service() {
    guard !isInService, endpoint != nil else { return }
    isInService = true
    repeat {
      tellAll()
      send()
      if connection.isOpen && isDone { connection.close(now: QUICEndpoint.now) }
    } while !connection.events.isEmpty || !connection.changed.isEmpty
    isInService = false
    setTimer()
    endpoint?.flush()
  }

  private func tellAll() {
    while !connection.events.isEmpty || !connection.changed.isEmpty {
      let events = connection.events
      connection.events = []
      events.forEach(handle)
      let changed = connection.changed
      connection.changed = []
      for stream in changed {
        stream.isMarkedChanged = false
        stream.user?.streamChanged()
      }
      openRequested()
    }
    openRequested()
  }

  private func handle(_ event: QUICConnection.Event) {
    switch event {
    case .established:
      logger.debug("QUIC connection established", metadata: metadata)
      count?.established(connection, now: QUICEndpoint.now)
      callbacks.established()
    case .streamOpened(let stream): accept(stream)
    case .streamsAllowed: break
    case .connectionIDAdded(let id):
      routes.insert(id)
      endpoint?.route(id, to: self)
    case .connectionIDRetired(let id):
      routes.remove(id)
      endpoint?.unroute(id)
    case .tokenReceived(let token): callbacks.tokenReceived(token)
    case .closed(let error):
      // First of all CONNECTION_CLOSE: whoever hears of the end may close the socket at once.
      send()
      lost(error)
    case .ended: ended()
    }
  }

  private func lost(_ error: QUICConnectionError) {
    logger.debug("QUIC connection closed", metadata: metadata.merging(["reason": "\(error)"]) { $1 })
    count?.closed(connection, error)
    for stream in connection.streams.values { stream.user?.connectionLost(error) }
    while let request = requests.popFirst() { request.fail(error) }
    callbacks.closed(error)
  }

  private func ended() {
    timer?.cancel()
    timer = nil
    endpoint?.remove(self)
    endpoint = nil
    callbacks = Callbacks()
  }

  private var metadata: Logger.Metadata {
    ["remote": "\(connection.remoteAddress.map { "\($0)" } ?? "unknown")"]
  }

  // MARK: Streams

  func streamEnded(_ channel: QUICStreamChannel) {
    if channels.removeValue(forKey: ObjectIdentifier(channel)) != nil { count?.streamEnded() }
  }

  private func makeChannel(_ stream: QUICStream) -> QUICStreamChannel {
    let channel = QUICStreamChannel(stream, host: self, parent: endpoint?.channel, on: loop, buffer: buffer)
    channels[ObjectIdentifier(channel)] = channel
    count?.streamOpened()
    return channel
  }

  private func accept(_ stream: QUICStream) {
    let channel = makeChannel(stream)
    guard connection.acceptsStreams, let accept = callbacks.accept else { return channel.refuse() }
    accept(channel).hop(to: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .success: channel.activate()
      case .failure: channel.refuse()
      }
    }
  }

  private func openRequested() {
    while let request = requests.first {
      if !request.isDone {
        guard let stream = connection.openStream() else { return }
        let channel = makeChannel(stream)
        channel.activate()
        request.succeed(channel)
      }
      requests.removeFirst()
    }
  }

  // MARK: Out

  private func send() {
    guard let endpoint else { return }
    let now = QUICEndpoint.now
    count?.sample(connection, now: now)
    for _ in 0..<QUICDriver.burstsAtOnce {
      connection.beginBurst()
      while endpoint.canSend, endpoint.send(from: connection, now: now) {}
      guard endpoint.canSend else { return endpoint.serveWhenWritable(self) }
      guard connection.endBurst(now: now) else { return }
    }
    isServiceScheduled = true
    loop.assumeIsolated().execute {
      self.isServiceScheduled = false
      self.service()
    }
  }

  /// A timer that is set already and comes early is left alone; it sets itself again.
  private func setTimer() {
    let now = QUICEndpoint.now
    guard var due = connection.wakeUp(now: now), let endpoint else {
      timer?.cancel()
      timer = nil
      return
    }
    // Nothing can be sent while the socket is full, and the timer would come again at once.
    if !endpoint.canSend { due = max(due, now + QUICDriver.waitForSocket) }
    if timer != nil && timerDue <= due { return }
    timer?.cancel()
    timerDue = due
    timer = loop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(due)) {
      self.timer = nil
      let now = QUICEndpoint.now
      guard self.connection.isDue(now: now) else { return self.setTimer() }
      self.connection.timeout(now: now)
      self.service()
    }
  }

  /// The socket's address changed.
  func moved(to local: SocketAddress) {
    connection.moved(to: local)
    needsService()
  }
}
