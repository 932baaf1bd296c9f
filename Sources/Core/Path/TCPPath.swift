import CPath
import NIOCore

/// The path below a TCP socket: its kernel's counts (TCP_INFO), which it takes once more before the socket closes.
///
/// It stands first in the socket's pipeline, under TLS and all else. A NIO socket closes by itself at a read error
/// and, where its output is closed, at its peer's end of stream; what is read just before is the last to be known
/// then. All calls on the channel's event loop.
///
/// `lost` is how many segments were sent again, but for those of which the peer said that they came twice. It is
/// wrong for a while where an acknowledgement was lost: its segment is sent again, which looks like a loss until
/// the peer tells of it, and a peer without SACK never does. On a stream with little to send that is common, for
/// no later acknowledgement stands in for the lost one. The loss of SYN segments shows in it, though they are not
/// in `sent`.
final class TCPPath: ChannelDuplexHandler, PathSource {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer

  private var context: ChannelHandlerContext?
  private var counters = TCPCounters()
  private var isOutputClosed = false
  private(set) var isOver = false

  /// The path below that channel; nil where it is no TCP socket.
  static func below(_ channel: any Channel) -> TCPPath? {
    let pipeline = channel.pipeline.syncOperations
    if let known = try? pipeline.handler(type: TCPPath.self) { return known }
    guard channel.isActive, let counts = tcpCounts(of: pipeline) else { return nil }
    let path = TCPPath()
    path.counters.take(counts)
    do {
      try pipeline.addHandler(path, position: .first)
    } catch {
      return nil
    }
    return path
  }

  var counts: PathCounts? {
    look()
    return counters.counts
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    isOver = true
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    look()
    if mode == .output { isOutputClosed = true }
    context.close(mode: mode, promise: promise)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if isOutputClosed { look() }
    context.fireChannelReadComplete()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    look()
    context.fireErrorCaught(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    isOver = true
    context.fireChannelInactive()
  }

  /// Reads the kernel's counts; once the socket is closed, those read last stay.
  private func look() {
    guard !isOver, let context, let counts = tcpCounts(of: context.pipeline.syncOperations) else { return }
    counters.take(counts)
  }
}

/// What the kernel counted; nil where the channel is no TCP socket, or is closed.
private func tcpCounts(of pipeline: ChannelPipeline.SynchronousOperations) -> cpath_tcp? {
  var counts = cpath_tcp()
  let result = try? pipeline.withUnsafeTransportIfAvailable(of: CInt.self) { socket in
    // The descriptor is the channel's own and open during the call; nothing keeps it.
    cpath_tcp_read(socket, &counts)
  }
  return result == 0 ? counts : nil
}

/// The kernel's counts, which are of 32 bits, carried on beyond those.
struct TCPCounters {
  private var last = cpath_tcp()
  private var sent: UInt64 = 0
  private var repeated: UInt64 = 0
  private var doubled: UInt64 = 0

  mutating func take(_ now: cpath_tcp) {
    sent += UInt64(now.sent &- last.sent)
    repeated += UInt64(now.repeated &- last.repeated)
    doubled += UInt64(now.doubled &- last.doubled)
    last = now
  }

  var counts: PathCounts {
    PathCounts(
      sent: sent,
      // A segment that the path doubled is told as such too, though nobody sent it again.
      lost: last.tells_doubled != 0 ? repeated - min(repeated, doubled) : nil,
      roundTrip: last.round_trip > 0
        ? PathCounts.RoundTrip(
          smoothed: UInt64(last.round_trip) * 1000,
          variation: UInt64(last.variation) * 1000
        ) : nil
    )
  }
}
