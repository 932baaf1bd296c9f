import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Channel {
  /// Ends the stream so that its peer sees an error and no clean end; what still waits is dropped.
  ///
  /// A transport with an error signal of its own acts on `StreamAbort` (a QUIC stream is reset, TLS leaves
  /// out its close_notify). A socket has none but RST, which the kernel sends when a socket is closed with
  /// `SO_LINGER` 0.
  func abort(reason: String) {
    let handled = eventLoop.makePromise(of: Void.self)
    triggerUserOutboundEvent(StreamAbort(reason: reason), promise: handled)
    handled.futureResult.whenFailure { _ in
      let lingered = (self as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
      (lingered ?? self.eventLoop.makeSucceededVoidFuture()).whenComplete { _ in self.close(promise: nil) }
    }
  }
}
