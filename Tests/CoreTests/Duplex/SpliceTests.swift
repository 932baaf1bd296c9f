import CSplice
import Foundation
import NIOCore
import NIOPosix
import Testing

@testable import MagicalaneCore

/// What holds of a duplex whose bytes the kernel moves, over sockets on loopback: nothing else has a kernel.
@Suite struct SpliceTests {
  private static let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private static let bulk = 4 << 20

  /// A joined pair of sockets and the far ends of both, as plain descriptors that wait.
  private final class Joined: Sendable {
    let client: Int32
    let target: Int32
    let counters = Duplex.Counters()
    let ended = SpliceTests.loops.next().makePromise(of: String.self)
    let spliced = SpliceTests.loops.next().makePromise(of: Void.self)
    let duplex = SpliceTests.loops.next().makePromise(of: NIOLoopBound<Duplex>.self)

    init() async throws {
      let (client, clientSide) = try await Joined.pair()
      let (target, targetSide) = try await Joined.pair()
      self.client = client
      self.target = target
      let (counters, ended, spliced, promise) = (counters, ended, spliced, duplex)
      try await clientSide.eventLoop.submit {
        let duplex = try Duplex.join(
          client: clientSide,
          target: targetSide,
          idleTimeout: .minutes(5),
          counters: counters,
          splice: SplicePlan(pipeCapacity: 1 << 20) { spliced.succeed() },
          onEnd: { ended.succeed($0.reason) }
        )
        promise.succeed(NIOLoopBound(duplex, eventLoop: clientSide.eventLoop))
      }.get()
    }

    deinit {
      close(client)
      close(target)
    }

    /// A descriptor that waits, and the channel at its other end.
    private static func pair() async throws -> (Int32, any Channel) {
      let accepted = SpliceTests.loops.next().makePromise(of: (any Channel).self)
      let server = try await ServerBootstrap(group: SpliceTests.loops)
        .childChannelOption(.autoRead, value: false)
        .childChannelOption(.allowRemoteHalfClosure, value: true)
        .childChannelInitializer { channel in
          accepted.succeed(channel)
          return channel.eventLoop.makeSucceededVoidFuture()
        }
        .bind(host: "127.0.0.1", port: 0).get()
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(server.localAddress?.port ?? 0).bigEndian
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      let status = withUnsafeBytes(of: &address) { bytes in
        connect(descriptor, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
      }
      #expect(status == 0)
      let channel = try await accepted.futureResult.get()
      try await server.close().get()
      return (descriptor, channel)
    }

    func abort() async throws {
      let duplex = try await duplex.futureResult.get()
      try await duplex.eventLoop.submit { duplex.value.abort(reason: "as the test wants") }.get()
    }
  }

  /// Runs what waits on a thread of its own.
  private func waiting<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { done in
      Thread { done.resume(returning: body()) }.start()
    }
  }

  private static func pattern(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
  }

  @Sendable private static func send(_ bytes: [UInt8], to descriptor: Int32) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { return }
      sent += count
    }
  }

  /// Up to a count or the end; the second is the errno that ended it early.
  @Sendable private static func receive(_ most: Int, from descriptor: Int32) -> ([UInt8], Int32) {
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < most {
      let count = read(descriptor, &piece, min(piece.count, most - bytes.count))
      if count < 0 { return (bytes, errno) }
      guard count > 0 else { break }
      bytes += piece[..<count]
    }
    return (bytes, 0)
  }

  @Test func `bulk crosses both ways at once, unchanged and counted, and ends by halves`() async throws {
    let joined = try await Joined()
    let bytes = Self.pattern(Self.bulk)
    async let up: Void = waiting {
      Self.send(bytes, to: joined.client)
      shutdown(joined.client, Int32(SHUT_WR))
    }
    async let down: Void = waiting { Self.send(bytes, to: joined.target) }
    async let atTarget = waiting { Self.receive(.max, from: joined.target).0 }
    async let atClient = waiting { Self.receive(Self.bulk, from: joined.client).0 }
    _ = await (up, down)
    #expect(await atTarget == bytes)
    #expect(await atClient == bytes)
    try await joined.spliced.futureResult.get()

    // The target has seen the client's end, and can still answer.
    await waiting { Self.send([1, 2, 3], to: joined.target) }
    #expect(await waiting { Self.receive(3, from: joined.client).0 } == [1, 2, 3])
    shutdown(joined.target, Int32(SHUT_WR))
    #expect(try await joined.ended.futureResult.get() == "finished")
    #expect(joined.counters.up.value == UInt64(Self.bulk))
    #expect(joined.counters.down.value == UInt64(Self.bulk + 3))
    #expect(await waiting { Self.receive(1, from: joined.client) } == ([], 0))
  }

  @Test func `only a path that is known to be short is limited`() {
    #expect(Splice.sendingLimit(roundTrip: 20) == 256 << 10)
    #expect(Splice.sendingLimit(roundTrip: 1000) == nil)
    #expect(Splice.sendingLimit(roundTrip: Int(UInt32.max)) == nil)
    #expect(Splice.sendingLimit(roundTrip: -Int(ENOSYS)) == nil)
  }

  @Test func `the kernel tells a round trip on loopback, and takes the limit`() async throws {
    let joined = try await spliced()
    let duplex = try await joined.duplex.futureResult.get()
    let (roundTrip, limits) = try await duplex.eventLoop.submit {
      let splice = try #require(duplex.value.splice)
      let limits = [splice.client, splice.target].map { socket in
        csplice_limit_sending(socket, 256 << 10)
        var size: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, &length)
        return size
      }
      return (csplice_least_round_trip(splice.client), limits)
    }.get()
    #expect((0..<1_000_000).contains(roundTrip))
    #expect(limits == [256 << 10, 256 << 10])
  }

  /// One that the kernel moves, with nothing on its way.
  private func spliced() async throws -> Joined {
    let joined = try await Joined()
    let bytes = Self.pattern(Self.bulk)
    async let sent: Void = waiting { Self.send(bytes, to: joined.target) }
    #expect(await waiting { Self.receive(Self.bulk, from: joined.client).0 } == bytes)
    await sent
    try await joined.spliced.futureResult.get()
    return joined
  }

  @Test func `an abort is an error for both peers`() async throws {
    let joined = try await spliced()
    try await joined.abort()
    #expect(try await joined.ended.futureResult.get() == "as the test wants")
    #expect(await waiting { Self.receive(1, from: joined.client).1 } == ECONNRESET)
    #expect(await waiting { Self.receive(1, from: joined.target).1 } == ECONNRESET)
  }

  @Test func `a peer that breaks is an error for the other one`() async throws {
    let joined = try await spliced()
    var lingering = linger(l_onoff: 1, l_linger: 0)
    setsockopt(joined.target, SOL_SOCKET, SO_LINGER, &lingering, socklen_t(MemoryLayout<linger>.size))
    // Closes the connection with RST, and keeps the descriptor for `deinit`.
    let spare = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    dup2(spare, joined.target)
    close(spare)
    #expect(try await joined.ended.futureResult.get().hasPrefix("target:"))
    #expect(await waiting { Self.receive(1, from: joined.client).1 } == ECONNRESET)
  }

  @Test func `a peer that does not read holds the other one up`() async throws {
    let joined = try await spliced()
    // Descriptors that do not wait, so that what does not fit shows.
    _ = fcntl(joined.target, F_SETFL, O_NONBLOCK)
    var small: Int32 = 1 << 16
    setsockopt(joined.client, SOL_SOCKET, SO_RCVBUF, &small, socklen_t(MemoryLayout<Int32>.size))
    let piece = [UInt8](repeating: 7, count: 1 << 16)
    var accepted = 0
    var refusals = 0
    while refusals < 50, accepted < 256 << 20 {
      let count = write(joined.target, piece, piece.count)
      if count > 0 {
        accepted += count
        refusals = 0
      } else {
        refusals += 1
        try await Task.sleep(for: .milliseconds(2))
      }
    }
    #expect(accepted < 64 << 20)
    let duplex = try await joined.duplex.futureResult.get()
    let held = try await duplex.eventLoop.submit { duplex.value.waiting.down }.get()
    #expect(held > 0 && held <= 1 << 20)
    // And lets it go on when it reads again.
    let wanted = accepted
    #expect(await waiting { Self.receive(wanted, from: joined.client).0.count } == accepted)
    try await joined.abort()
  }

  @Test(arguments: [(64 << 10, 64 << 10), (100_000, 64 << 10), (1 << 30, 1 << 20), (1, 4096)])
  func `a pipe is no larger than what may wait`(buffer: Int, capacity: Int) {
    #expect(SplicePipe.capacity(within: buffer) == capacity)
  }
}
