import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How a duplex hands its two sockets to the kernel.
///
/// It does so once a session has shown that it moves bulk: a short one would pay for pipes and gain nothing.
///
///     wanted ──enough bytes──► settling ──nothing waits in either stream──► spliced
///                                 └──────── a stream ends, no descriptors ──► never
///
/// While it settles nothing is read, so that what was read is written, and then no byte is left in the program.
extension Duplex {
  enum Splicing {
    /// The streams are no plain sockets, or it was tried.
    case never
    case wanted(SplicePlan)
    case settling
    case spliced(Splice, SpliceLoop)
  }

  /// Bytes of a session after which it is worth the trouble.
  private static let worthwhile: UInt64 = 256 << 10

  var splice: Splice? {
    if case .spliced(let splice, _) = splicing { splice } else { nil }
  }

  /// Whether no more is to be read into the program.
  var holdsReads: Bool {
    switch splicing {
    case .settling, .spliced: true
    case .never, .wanted: false
    }
  }

  /// Called after each batch.
  func considerSplice(_ plan: SplicePlan) {
    guard counters.up.value &+ counters.down.value >= Self.worthwhile, client.flow == .open,
      target.flow == .open, replacement == nil
    else { return }
    splicing = .settling
    settle(plan)
  }

  /// Waits until both streams have written what they have, and again where a batch came in meanwhile.
  private func settle(_ plan: SplicePlan) {
    guard let toClient = client.allWritten(), let toTarget = target.allWritten() else { return giveUp() }
    toClient.and(toTarget).assumeIsolated().whenComplete { result in
      guard case .settling = self.splicing else { return }
      guard case .success = result, self.client.flow == .open, self.target.flow == .open else {
        return self.giveUp()
      }
      if self.client.waiting > 0 || self.target.waiting > 0 { return self.settle(plan) }
      self.handOver(plan)
    }
  }

  private func giveUp() {
    guard case .settling = splicing else { return }
    splicing = .never
    client.readIfWanted()
    target.readIfWanted()
  }

  /// The sockets get a second descriptor each; NIO closes the first, which sends nothing.
  private func handOver(_ plan: SplicePlan) {
    guard let loop = SpliceLoops.any(), let clientSocket = client.duplicatedSocket(),
      let eventLoop = client.eventLoop
    else { return giveUp() }
    guard let targetSocket = target.duplicatedSocket() else {
      close(clientSocket)
      return giveUp()
    }
    let this = NIOLoopBound(self, eventLoop: eventLoop)
    let splice = Splice(
      client: clientSocket,
      target: targetSocket,
      pipeCapacity: plan.pipeCapacity,
      counters: counters,
      metrics: metrics,
      memory: memory
    ) { outcome in
      eventLoop.execute { this.value.end(outcome) }
    }
    splice.limitShortPaths()
    splicing = .spliced(splice, loop)
    for end in [client, target] {
      end.detach()
      end.close()
    }
    loop.add(splice)
    plan.onSplice()
  }

  /// The duplex is over; where it was not the splice that said so, that is over too.
  func endSplice(_ outcome: Outcome) {
    if case .spliced(let splice, let loop) = splicing { loop.abort(splice, outcome) }
    splicing = .never
  }
}

/// How the bytes of a session may be spliced.
struct SplicePlan {
  /// The most that may wait in each direction's pipe.
  var pipeCapacity: Int
  /// Told on the event loop when it happens.
  var onSplice: () -> Void
}

extension DuplexEnd {
  /// Succeeds when everything that was written so far is out; nil where the stream is gone.
  func allWritten() -> EventLoopFuture<Void>? {
    guard let context else { return nil }
    let written = context.eventLoop.makePromise(of: Void.self)
    context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: written)
    return written.futureResult
  }

  /// Another descriptor of the stream's socket; nil where it has none, or the system has none left.
  func duplicatedSocket() -> CInt? {
    guard let pipeline = context?.pipeline.syncOperations else { return nil }
    // The transport said that its streams are plain sockets, whose only descriptor this is.
    let socket = try? pipeline.withUnsafeTransportIfAvailable(of: CInt.self) { socket in
      fcntl(socket, F_DUPFD_CLOEXEC, 0)
    }
    guard let socket, socket >= 0 else { return nil }
    return socket
  }

  var eventLoop: (any EventLoop)? { context?.eventLoop }
}
