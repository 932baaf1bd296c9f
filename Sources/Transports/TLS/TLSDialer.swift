import MagicalaneCore
import NIOCore

/// Opens connections to one TLS server and completes their handshakes.
struct TLSDialer: Sendable {
  let server: Target
  let resolver: NameResolver
  let socket: TCPSocket
  let credentials: TLSClientCredentials
  let tickets = SessionTickets()
  let metrics: TLSMetrics

  /// - Returns: on `loop`, a channel ready for bytes of the application; fails with `OpenError`, at the deadline at
  ///   the latest.
  func open(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    resolver.open(server, deadline: deadline, on: loop) { address in
      connect(to: address, deadline: deadline, on: loop)
    }
  }

  private func connect(
    to address: SocketAddress,
    deadline: NIODeadline,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel> {
    let handshake = loop.makePromise(of: Void.self)
    let connected = socket.connect(to: address, deadline: deadline, on: loop) { channel in
      channel.eventLoop.makeCompletedFuture {
        let session = try TLSSession(
          .client(credentials, ticket: tickets.take()),
          applicationProtocol: TLSTransport.applicationProtocol
        )
        let handler = GnuTLSHandler(
          session,
          tickets: tickets,
          handshakePromise: handshake,
          metrics: metrics
        )
        try channel.pipeline.syncOperations.addHandler(handler)
      }
    }
    // Where no handler came to hold the promise, this completes it.
    connected.whenFailure { handshake.fail($0) }
    return connected.flatMap { channel in
      let timer = loop.scheduleTask(deadline: deadline) {
        handshake.fail(OpenError(.timedOut, "the server did not complete the TLS handshake in time"))
      }
      handshake.futureResult.whenComplete { result in
        timer.cancel()
        if case .failure = result { channel.close(promise: nil) }
      }
      return handshake.futureResult.map { channel }
    }.flatMapErrorThrowing { error in
      guard let error = error as? TLSError else { throw error }
      throw OpenError(.failed, "TLS with the server failed: \(error)", cause: error)
    }
  }
}
