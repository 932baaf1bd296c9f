import NIOCore

/// Gives each accepted stream to its event loop, in the pipeline of a listening socket.
///
/// It stands before the handler by which NIO does the same. That one asks the stream's loop to prepare the stream,
/// waits for the answer and then asks it to begin, and where the loop is another one each of these wakes a thread.
/// Here both go together, and nobody waits.
final class HandOverHandler: ChannelInboundHandler, Sendable {
  typealias InboundIn = any Channel

  private let accept: ListeningSockets.Accept

  /// - Parameter accept: prepares a stream on its own event loop; done when it returns, or the stream is closed.
  init(_ accept: @escaping ListeningSockets.Accept) {
    self.accept = accept
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let stream = unwrapInboundIn(data)
    if stream.eventLoop === context.eventLoop {
      prepare(stream)
    } else {
      stream.eventLoop.execute { self.prepare(stream) }
    }
    // What the end of a listening socket's pipeline does: the stream's loop registers it, behind the above.
    context.channel._channelCore.channelRead0(data)
  }

  private func prepare(_ stream: any Channel) {
    accept(stream).whenFailure { _ in stream.close(promise: nil) }
  }
}
