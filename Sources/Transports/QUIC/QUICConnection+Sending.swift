import CNgtcp2
import NIOCore

/// How to send a buffer of packets for one destination: all of one size but the last, which may be shorter.
/// The kernel splits them again (UDP_SEGMENT).
struct DatagramBatch {
  /// Size of each packet.
  var segmentSize: Int
  var remote: SocketAddress
  /// ECN bits (RFC 3168 §5).
  var ecn: UInt8

  /// How many packets this many bytes are.
  func count(of bytes: Int) -> Int {
    segmentSize > 0 ? (bytes + segmentSize - 1) / segmentSize : 0
  }
}

/// What a connection needs to write packets, and must not move or be copied.
final class QUICPacketOutput {
  /// Most packets in a batch: the kernel's limit for UDP_SEGMENT.
  static let maxPackets = 64
  /// Most bytes in a batch: the largest UDP payload over IPv4.
  static let maxBytes = 65_507

  /// Path and address of the packet just written.
  fileprivate let path = QUICPath()
  /// The path that `remote` belongs to.
  fileprivate let knownPath = QUICPath()
  fileprivate var remote: SocketAddress
  /// Owned, freed in `deinit`.
  fileprivate let vectors = UnsafeMutableBufferPointer<ngtcp2_vec>.allocate(capacity: 16)
  /// Owned, freed in `deinit`. ngtcp2 wants the same one until a packet is complete.
  fileprivate let info = UnsafeMutablePointer<ngtcp2_pkt_info>.allocate(capacity: 1)
  fileprivate var repetition = QUICRepetition()
  fileprivate var gaps = QUICGapLimit(packetSize: Int(NGTCP2_MAX_UDP_PAYLOAD_SIZE))
  /// A packet that did not fit the batch it came up in; it starts the next one.
  fileprivate var leftOver: (bytes: [UInt8], remote: SocketAddress, ecn: UInt8)?
  /// Bytes that this burst may have.
  fileprivate var burst = 0
  /// Bytes that may still be sent before the next pause.
  fileprivate var burstLeft = 0
  /// When the pause is over that the bursts so far have earned.
  fileprivate var pauseEnd: UInt64 = 0
  /// The last burst was used up, so that there may be more to send after the pause.
  fileprivate var wasUsedUp = false
  /// What was waited for last, and when it is time for that.
  fileprivate var deadline = UInt64.max
  fileprivate var wakeUp: UInt64 = 0

  init(remote: SocketAddress) {
    self.remote = remote
    vectors.initialize(repeating: ngtcp2_vec())
    info.initialize(to: ngtcp2_pkt_info())
  }

  deinit {
    vectors.deallocate()
    info.deallocate()
  }

  fileprivate func currentRemote() -> SocketAddress {
    remote(of: path.pointer) ?? remote
  }

  /// A packet was found lost by a timer.
  func noteLoss(_ stat: ngtcp2_conn_stat, now: UInt64) {
    repetition.noteLoss(to: remote, roundTrip: stat.smoothed_rtt, now: now)
  }

  /// The peer's address of a path; made anew only where the path is another one than last time.
  func remote(of path: UnsafePointer<ngtcp2_path>) -> SocketAddress? {
    if !knownPath.equals(path) {
      guard let remote = SocketAddress(path.pointee.remote) else { return nil }
      knownPath.copy(from: path)
      self.remote = remote
    }
    return remote
  }
}

extension QUICConnection {
  /// Starts a burst: what may be sent without a pause. `nextBatch` then yields it.
  func beginBurst() {
    output.burst = isOpen ? ngtcp2_conn_get_send_quantum(conn) : Int.max
    output.burstLeft = output.burst
    if isOpen { checkBlocked() }
  }

  /// ngtcp2 lets a burst go so much before its time.
  private static let earliness: UInt64 = 1_000_000

  /// Ends a burst, so that pacing counts from now on (RFC 9002 §7.7).
  ///
  /// A burst that came early makes the next pause longer. ngtcp2 would forget it: with an acknowledgement to
  /// wake us at any time every burst comes early, and the rate is a quarter more than was decided.
  ///
  /// - Returns: whether the burst was used up, so that there may be more to send at once.
  func endBurst(now: UInt64) -> Bool {
    guard isOpen else { return false }
    let start = max(now, min(output.pauseEnd, now + QUICConnection.earliness))
    ngtcp2_conn_update_pkt_tx_time(conn, start)
    let bytes = output.burst - output.burstLeft
    if bytes > 0 {
      output.pauseEnd = start + pause(after: bytes)
      output.wasUsedUp = output.burstLeft <= 0
    }
    return output.burstLeft <= 0
  }

  /// The shortest wait where there may be more to send after a pause between bursts.
  private static let smallestPause: UInt64 = 50_000
  /// The shortest wait else (RFC 9002 §6.1.2). On a short path ngtcp2 lets an acknowledgement wait for an eighth
  /// of the round trip, which is too short for an answer to take it along.
  private static let smallestWait: UInt64 = 1_000_000

  /// When to call `timeout`; nil where nothing is waited for.
  ///
  /// Calling it again does not put off what is waited for.
  func wakeUp(now: UInt64) -> UInt64? {
    guard let ownWakeUp = libraryWakeUp(now: now) else { return nil }
    return min(ownWakeUp, isOpen ? output.repetition.due ?? .max : .max)
  }

  private func libraryWakeUp(now: UInt64) -> UInt64? {
    guard let deadline else { return nil }
    let isPausing = output.wasUsedUp || !sendTurns.isEmpty
    let due = max(deadline, now + (isPausing ? QUICConnection.smallestPause : QUICConnection.smallestWait))
    output.wakeUp = deadline == output.deadline ? min(due, output.wakeUp) : due
    output.deadline = deadline
    return output.wakeUp
  }

  /// Whether a timer that goes off now is of use: what it was set for may be done.
  func isDue(now: UInt64) -> Bool { output.wakeUp <= now || (output.repetition.due ?? .max) <= now }

  func forgetWakeUp() { output.deadline = .max }

  /// What `ngtcp2_conn_update_pkt_tx_time` computes, in nanoseconds; a second at most.
  private func pause(after bytes: Int) -> UInt64 {
    let stat = statistics
    let unpaced = 1.25 * Double(stat.cwnd) / Double(max(stat.smoothed_rtt, 1))
    let rate = stat.pacing_rate > 0 ? stat.pacing_rate : unpaced
    return UInt64(min(Double(bytes) / max(rate, 1e-9), 1e9))
  }

  /// Fills `buffer` with the next packets of this burst.
  ///
  /// - Parameter buffer: empty, with room for `QUICPacketOutput.maxBytes`; nobody else refers to its storage,
  ///   or it is copied.
  /// - Returns: nil where nothing may be sent now; `buffer` is then as it was.
  func nextBatch(into buffer: inout ByteBuffer, now: UInt64) -> DatagramBatch? {
    guard isOpen else { return closeBatch(&buffer) }
    guard output.burstLeft > 0 else { return nil }
    if let copy = output.repetition.next(now: now) {
      datagramsSent += UInt64(copy.batch.count(of: copy.bytes.readableBytes))
      output.burstLeft -= buffer.writeImmutableBuffer(copy.bytes)
      return copy.batch
    }
    let inFlight = output.repetition.isLossy(now) ? statistics.bytes_in_flight : 0
    var batch = DatagramBatch(segmentSize: 0, remote: output.remote, ecn: 0)
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: QUICPacketOutput.maxBytes) { target in
      var filling = BatchFilling(target)
      fill(&filling, now: now)
      batch.segmentSize = filling.segmentSize
      batch.remote = filling.remote ?? batch.remote
      batch.ecn = filling.ecn
      return filling.used
    }
    output.burstLeft -= buffer.readableBytes
    output.gaps.sent(buffer.readableBytes)
    // The connection may have failed while it wrote.
    if buffer.readableBytes == 0 { return isOpen ? nil : closeBatch(&buffer) }
    if output.repetition.wants(batch, bytes: buffer.readableBytes, now: now) {
      keep(buffer, batch, inFlight: inFlight, now: now)
    }
    return batch
  }

  /// Keeps a copy of packets that the peer has to acknowledge, where the congestion window has room for it.
  private func keep(_ bytes: ByteBuffer, _ batch: DatagramBatch, inFlight: UInt64, now: UInt64) {
    let stat = statistics
    guard stat.bytes_in_flight > inFlight, stat.bytes_in_flight <= stat.cwnd / 2 else { return }
    output.repetition.keep(bytes, batch, now: now, roundTrip: stat.smoothed_rtt)
  }

  private func closeBatch(_ buffer: inout ByteBuffer) -> DatagramBatch? {
    guard isClosePacketDue else { return nil }
    isClosePacketDue = false
    buffer.writeBytes(closePacket)
    return DatagramBatch(segmentSize: closePacket.count, remote: output.remote, ecn: 0)
  }

  private func fill(_ filling: inout BatchFilling, now: UInt64) {
    if let packet = output.leftOver {
      output.leftOver = nil
      filling.take(packet.bytes, packet.remote, packet.ecn)
    }
    let largest = ngtcp2_conn_get_max_tx_udp_payload_size(conn)
    let usual = ngtcp2_conn_get_path_max_tx_udp_payload_size(conn)
    while filling.hasRoom(for: largest, usual: usual), filling.used < output.burstLeft {
      guard let place = filling.next else { return }
      let count = writePacket(place, largest, now: now)
      guard count > 0 else { return }
      if count <= usual { datagramsSent += 1 } else { output.repetition.noteSizeProbe(now: now) }
      let (remote, ecn) = (output.currentRemote(), UInt8(truncatingIfNeeded: output.info.pointee.ecn))
      guard filling.accepts(count, remote, ecn, usual: usual) else {
        output.leftOver = (Array(UnsafeBufferPointer(start: place, count: count)), remote, ecn)
        return
      }
      filling.add(count, remote, ecn)
    }
  }

  /// Writes one packet, with the bytes of as many streams as fit.
  ///
  /// - Returns: its size; 0 where nothing may be sent now.
  private func writePacket(_ target: UnsafeMutablePointer<UInt8>, _ size: Int, now: UInt64) -> Int {
    while true {
      let stream = nextTurn()
      var flags = UInt32(NGTCP2_WRITE_STREAM_FLAG_MORE)
      var (vectors, bytes) = (0, 0)
      if let stream {
        (vectors, bytes) = stream.output.fill(output.vectors, limit: 2 * size)
        if stream.isFinishing && bytes == stream.output.unsent {
          flags |= UInt32(NGTCP2_WRITE_STREAM_FLAG_FIN)
        }
      }
      var accepted: ngtcp2_ssize = -1
      let written = shim_conn_writev_stream(
        conn,
        output.path.pointer,
        output.info,
        target,
        size,
        &accepted,
        flags,
        stream?.id ?? -1,
        output.vectors.baseAddress,
        vectors,
        now
      )
      if let stream, accepted >= 0 {
        sent(accepted, of: bytes, withFin: flags & UInt32(NGTCP2_WRITE_STREAM_FLAG_FIN) != 0, on: stream)
      }
      if written >= 0 { return written }
      switch CInt(written) {
      case NGTCP2_ERR_WRITE_MORE: continue
      case NGTCP2_ERR_STREAM_DATA_BLOCKED: block()
      case NGTCP2_ERR_STREAM_SHUT_WR, NGTCP2_ERR_STREAM_NOT_FOUND:
        if let stream { stopped(stream) }
        skipTurn()
      default:
        failed(CInt(written), now: now)
        return 0
      }
    }
  }

  private func sent(_ count: Int, of offered: Int, withFin: Bool, on stream: QUICStream) {
    stream.output.sent(count)
    output.gaps.carried(count)
    if withFin && count == offered { stream.isFinSent = true }
    turnLeft -= count
    if turnLeft <= 0 || !stream.wantsToSend {
      skipTurn()
      wantsTurn(stream)
    }
  }

  /// The stream whose turn it is and that may send: one that only wants to end needs no window.
  private func nextTurn() -> QUICStream? {
    while let stream = sendTurns.first {
      stream.isHeldBack = stream.output.unsent > 0 && stream.output.inFlight >= output.gaps.most
      let isBlocked =
        stream.isHeldBack
        || stream.output.unsent > 0 && ngtcp2_conn_get_max_stream_data_left(conn, stream.id) == 0
      guard stream.wantsToSend, !isBlocked else {
        if isBlocked { block() } else { skipTurn() }
        continue
      }
      // A full connection window holds everybody up; nobody loses the turn.
      return stream.output.unsent > 0 && ngtcp2_conn_get_max_data_left(conn) == 0 ? nil : stream
    }
    return nil
  }

  /// The first stream's window is full; it has its next turn when the peer opens it.
  private func block() {
    if let stream = sendTurns.first, !stream.isListedBlocked {
      stream.isListedBlocked = true
      blocked.append(stream)
    }
    skipTurn()
  }

  /// A stream that waits for its window does not write, and so does not learn that the peer wants no more.
  private func checkBlocked() {
    for _ in 0..<min(blocked.count, 32) {
      guard let stream = blocked.popFirst() else { return }
      stream.isListedBlocked = false
      guard stream.wantsToSend, !stream.isQueued else { continue }
      if shim_conn_is_stream_stopped(conn, stream.id) != 0 {
        stopped(stream)
      } else {
        stream.isListedBlocked = true
        blocked.append(stream)
      }
    }
  }

  /// The peer wants no more on this stream.
  func stopped(_ stream: QUICStream) {
    guard !stream.isOutputDead else { return }
    stream.isStopped = true
    stream.isOutputDead = true
    stream.isOutputLost = stream.output.held > 0
    stream.output.abandon()
    markChanged(stream)
  }

  private func skipTurn() {
    sendTurns.popFirst()?.isQueued = false
    turnLeft = QUICConnection.turn
  }
}

/// A batch while it is filled.
private struct BatchFilling {
  private let target: UnsafeMutableRawBufferPointer
  private(set) var used = 0
  private(set) var segmentSize = 0
  private(set) var remote: SocketAddress?
  private(set) var ecn: UInt8 = 0
  private var packets = 0
  private var isComplete = false

  init(_ target: UnsafeMutableRawBufferPointer) {
    self.target = target
  }

  /// Where the next packet goes.
  var next: UnsafeMutablePointer<UInt8>? {
    target.baseAddress.map { ($0 + used).assumingMemoryBound(to: UInt8.self) }
  }

  /// - Parameter usual: the size that the path is known to carry; a larger packet probes it and goes alone.
  func hasRoom(for size: Int, usual: Int) -> Bool {
    !isComplete && packets < QUICPacketOutput.maxPackets && used + size <= QUICPacketOutput.maxBytes
      && segmentSize <= usual
  }

  func accepts(_ count: Int, _ remote: SocketAddress, _ ecn: UInt8, usual: Int) -> Bool {
    packets == 0 || (count <= segmentSize && ecn == self.ecn && remote == self.remote)
  }

  mutating func add(_ count: Int, _ remote: SocketAddress, _ ecn: UInt8) {
    if packets == 0 {
      segmentSize = count
      self.remote = remote
      self.ecn = ecn
    }
    packets += 1
    used += count
    // A shorter packet can only be the last.
    isComplete = count < segmentSize
  }

  mutating func take(_ packet: [UInt8], _ remote: SocketAddress, _ ecn: UInt8) {
    target.copyBytes(from: packet)
    add(packet.count, remote, ecn)
  }
}
