import MagicalaneCore
import NIOCore
import NIOPosix

/// How every TCP socket of ours is set up, whichever end opened it.
///
/// Without SO_KEEPALIVE: the idle time-out of a session ends what a dead peer leaves behind, and does it sooner.
struct TCPSocket: Sendable {
  /// One read of the kernel's buffer, and how many of those make the batch that one `read()` asks for.
  ///
  /// A batch is at most a quarter of `buffer`, and what waits to be written at most a sixteenth when the next
  /// batch is asked for. The rest is for the stream on the other side of the duplex.
  private var readSize: Int { batch / Int(TCPSocket.readsPerBatch) }
  private static let readsPerBatch: UInt = 4
  private let buffer: Int
  private let memory: StreamMemory

  /// Most bytes that one `read()` yields.
  var batch: Int { memory.least(of: min(max(buffer / 4, 2048), TCPSocket.largestBatch)) }
  /// Most bytes that wait to be written when more is asked for.
  var highMark: Int { memory.least(of: min(max(buffer / 16, 512), TCPSocket.largestHighMark)) }
  private var waterMark: ChannelOptions.Types.WriteBufferWaterMark {
    .init(low: highMark / 2, high: highMark)
  }

  /// Above this, more waiting in user space gains nothing: the kernel's own buffer grows with the path's
  /// bandwidth × delay, and ours has only to refill it before it runs dry.
  private static let largestHighMark = 1 << 20
  private static let largestBatch = 1 << 20

  /// - Parameters:
  ///   - buffer: most bytes that may wait in one stream, per direction.
  ///   - memory: how much of that sockets use, from the next one on.
  init(buffer: Int, memory: StreamMemory = StreamMemory()) {
    self.buffer = buffer
    self.memory = memory
  }

  /// Connects to one address; fails at the deadline.
  ///
  /// - Parameter prepare: adds handlers before the channel is active.
  func connect(
    to address: SocketAddress,
    deadline: NIODeadline,
    on loop: any EventLoop,
    prepare: @escaping @Sendable (any Channel) -> EventLoopFuture<Void> = {
      $0.eventLoop.makeSucceededVoidFuture()
    }
  ) -> EventLoopFuture<any Channel> {
    ClientBootstrap(group: loop)
      // TCP_NODELAY is what NIO sets by itself.
      .connectTimeout(max(deadline - .now(), .milliseconds(1)))
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { channel in
        do {
          try setUp(channel)
        } catch {
          return channel.eventLoop.makeFailedFuture(error)
        }
        return prepare(channel)
      }
      .connect(to: address)
  }

  /// A bootstrap for a listening socket; `accept` has to set its streams up.
  static func server(
    loops: any EventLoopGroup,
    accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
  ) -> ServerBootstrap {
    ServerBootstrap(group: loops)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      // Accepted sockets have it from the listening one.
      .serverChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .serverChannelInitializer { channel in
        // Without it, running out of descriptors makes the loop spin on accept.
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(AcceptBackoffHandler(), HandOverHandler(accept))
        }
      }
      .childChannelInitializer(accept)
  }

  /// Makes a socket a stream as `Transport` wants it; on its event loop, before it is active.
  ///
  /// Not by the bootstrap, which makes a future of each option.
  func setUp(_ channel: any Channel) throws {
    // Socket channels have options that can be set at once.
    guard let options = channel.syncOptions else { return }
    try options.setOption(.autoRead, value: false)
    try options.setOption(.allowRemoteHalfClosure, value: true)
    try options.setOption(.maxMessagesPerRead, value: TCPSocket.readsPerBatch)
    try options.setOption(.writeBufferWaterMark, value: waterMark)
    try options.setOption(.recvAllocator, value: allocator)
  }

  /// Small reads first, twice as large after each that was full: a request fits one, and the buffer of its last
  /// read is the greatest part of what an idle stream costs.
  private var allocator: AdaptiveRecvByteBufferAllocator {
    AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 512, maximum: readSize)
  }
}
