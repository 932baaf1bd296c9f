import MagicalaneCore
import NIOCore
import NIOPosix

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How the UDP sockets of QUIC are set up.
enum UDPSocket {
  /// Asked for in both directions; the system may give less (`net.core.rmem_max`).
  private static let bufferSize = 4 << 20
  /// Bytes that may wait in NIO for the socket, before no more packets are made.
  private static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 256 << 10, high: 512 << 10)

  /// Binds a socket for `endpoint`, which becomes its only handler.
  ///
  /// - Parameter isShared: other sockets may be bound to the same port (SO_REUSEPORT); the kernel spreads
  ///   clients over them.
  static func bind(
    _ endpoint: QUICEndpoint,
    to address: SocketAddress,
    isShared: Bool
  ) -> EventLoopFuture<any Channel> {
    var bootstrap = bootstrap(endpoint)
      .channelOption(.socketOption(.init(rawValue: SO_REUSEPORT)), value: isShared ? 1 : 0)
    if case .v6 = address {
      // [::] stands for every interface and takes IPv4 as well.
      let only: SocketOptionValue = IPAddress(address)?.isUnspecified == true ? 0 : 1
      let option = ChannelOptions.Types.SocketOption(level: .ipv6, name: .ipv6_v6only)
      bootstrap = bootstrap.channelOption(option, value: only)
    }
    return bootstrap.bind(to: address).flatMap { channel in tune(channel).map { channel } }
  }

  /// Makes a socket for `endpoint` that talks to one address alone and hears when nothing listens there.
  static func connect(_ endpoint: QUICEndpoint, to address: SocketAddress) -> EventLoopFuture<any Channel> {
    bootstrap(endpoint).connect(to: address).flatMap { channel in tune(channel).map { channel } }
  }

  private static func bootstrap(_ endpoint: QUICEndpoint) -> DatagramBootstrap {
    let handler = NIOLoopBound(endpoint, eventLoop: endpoint.loop)
    return DatagramBootstrap(group: endpoint.loop)
      // One GRO read is one message; a buffer must hold the largest.
      .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65_536))
      .channelOption(.maxMessagesPerRead, value: 16)
      .channelOption(.writeBufferWaterMark, value: waterMark)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(handler.value)
        }
      }
  }

  /// What makes QUIC fast and finds the path's packet size; each is done without where the system refuses.
  private static func tune(_ channel: any Channel) -> EventLoopFuture<Void> {
    let forced: [(NIOBSDSocket.OptionLevel, NIOBSDSocket.Option, Int)] = [
      (.socket, .so_rcvbuf, bufferSize),
      (.socket, .so_sndbuf, bufferSize),
      // These two go over the system's limit, for those who may.
      (.socket, .init(rawValue: SO_RCVBUFFORCE), bufferSize),
      (.socket, .init(rawValue: SO_SNDBUFFORCE), bufferSize),
      // QUIC packets are never fragmented, and the size that fits is found by probes (RFC 9000 §14).
      (.ip, .init(rawValue: IP_MTU_DISCOVER), Int(IP_PMTUDISC_PROBE)),
      (.ipv6, .init(rawValue: IPV6_MTU_DISCOVER), Int(IPV6_PMTUDISC_PROBE)),
    ]
    let options =
      forced.map { level, name, value in
        channel.setOption(ChannelOptions.Types.SocketOption(level: level, name: name), value: value)
      } + [
        channel.setOption(.explicitCongestionNotification, value: true),
        channel.setOption(.datagramReceiveOffload, value: true),
        channel.setOption(.datagramReceiveSegmentSize, value: true),
      ]
    return EventLoopFuture.andAllComplete(options, on: channel.eventLoop)
  }
}
