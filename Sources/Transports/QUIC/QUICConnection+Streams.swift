import CNgtcp2
import NIOCore

// What users of streams ask for. Nothing here writes a packet: the owner calls `nextBatch` afterwards.
extension QUICConnection {
  /// Opens a bidirectional stream; nil where the peer allows no more for now, or the connection is over.
  func openStream() -> QUICStream? {
    guard state == .established else { return nil }
    var id: Int64 = -1
    guard ngtcp2_conn_open_bidi_stream(conn, &id, nil) == 0 else { return nil }
    let stream = QUICStream(id: id, windows: settings.windows)
    adopt(stream)
    return stream
  }

  /// Queues bytes; they are sent when the peer's windows and the path allow.
  func write(_ buffer: ByteBuffer, on stream: QUICStream) {
    guard isOpen, !stream.isOutputDead, !stream.isFinishing, !stream.isClosed else { return }
    stream.output.append(buffer)
    stream.countOutput()
    wantsTurn(stream)
  }

  /// Ends the output behind what is queued.
  func finish(_ stream: QUICStream) {
    guard isOpen, !stream.isOutputDead, !stream.isFinishing, !stream.isClosed else { return }
    stream.isFinishing = true
    wantsTurn(stream)
  }

  /// Gives up sending: the peer sees an error, and what waits is dropped (RESET_STREAM).
  func reset(_ stream: QUICStream, code: UInt64) {
    guard isOpen, !stream.isOutputDead, !stream.isClosed else { return }
    stream.isOutputDead = true
    stream.output.abandon()
    ngtcp2_conn_shutdown_stream_write(conn, stream.id, code)
  }

  /// Gives up reading: the peer is asked to stop (STOP_SENDING).
  func stop(_ stream: QUICStream, code: UInt64) {
    guard isOpen, !stream.isClosed, !stream.isInputFinished, stream.resetCode == nil else { return }
    ngtcp2_conn_shutdown_stream_read(conn, stream.id, code)
  }

  /// Takes one batch of what has arrived and lets the peer send as much more.
  func take(from stream: QUICStream) -> ByteBuffer {
    let bytes = stream.received.take()
    if isOpen, !stream.isClosed, !stream.isInputFinished {
      let count = UInt64(bytes.readableBytes)
      let windows = settings.windows
      let room = UInt64(windows.memory.room(of: Int(windows.maxStream)))
      let credit = stream.window.take(count, now: lastReceived, room: room) { statistics.smoothed_rtt }
      ngtcp2_conn_extend_max_stream_offset(conn, stream.id, credit)
    }
    stream.countInput()
    return bytes
  }

  /// Lets the peer open no more streams than it already may.
  func stopAcceptingStreams() {
    acceptsStreams = false
  }

  /// Whether bytes or a FIN wait for the peer's acknowledgement.
  ///
  /// - Parameter ofEndedStreams: look only at streams that nobody uses any more.
  func hasUnfinishedOutput(ofEndedStreams: Bool) -> Bool {
    streams.values.contains { stream in
      (!ofEndedStreams || stream.user == nil) && !stream.isOutputDead
        && (stream.output.held > 0 || stream.isFinishing)
    }
  }

  /// Starts to use new keys (RFC 9001 §6).
  ///
  /// - Returns: false where it is too early for that.
  func updateKeys(now: UInt64) -> Bool {
    state == .established && ngtcp2_conn_initiate_key_update(conn, now) == 0
  }

  /// This end's address changed; the server checks the new path by itself (RFC 9000 §9.3).
  func moved(to local: SocketAddress) {
    local.withSockAddr { address, size in
      var raw = ngtcp2_addr(addr: UnsafeMutablePointer(mutating: address), addrlen: ngtcp2_socklen(size))
      ngtcp2_conn_set_local_addr(conn, &raw)
    }
  }

  func adopt(_ stream: QUICStream) {
    streams[stream.id] = stream
    ngtcp2_conn_set_stream_user_data(conn, stream.id, Unmanaged.passUnretained(stream).toOpaque())
    if streams.count == 1 { setKeepAlive() }
  }

  /// A quiet stream must not lose its connection to the idle time-out of either end, so a client says
  /// something in time while there are streams; where the settings say so, always.
  func setKeepAlive() {
    guard !isServer, state == .established else { return }
    let isWanted = settings.keepAlive != nil || !streams.isEmpty
    let peer = ngtcp2_conn_get_remote_transport_params(conn)?.pointee.max_idle_timeout ?? 0
    let idle = [peer, settings.idleTimeout].filter { $0 > 0 }.min() ?? UInt64.max
    shim_conn_keep_alive(conn, isWanted ? min(settings.keepAlive ?? UInt64.max, idle / 3) : 0)
  }

  func markChanged(_ stream: QUICStream) {
    guard !stream.isMarkedChanged else { return }
    stream.isMarkedChanged = true
    changed.append(stream)
  }

  /// Puts a stream that has something to send behind those that wait already.
  func wantsTurn(_ stream: QUICStream) {
    guard stream.wantsToSend, !stream.isQueued else { return }
    stream.isQueued = true
    sendTurns.append(stream)
  }
}
