import NIOCore

/// A transport whose streams end at another magicalane, or at any proxy that takes CONNECT requests.
///
/// It opens plain streams to its server; `connect` asks for the target on each of them. What `connect` yields
/// reads the target's bytes from the first `read()` on, those that came right behind the answer included.
public protocol TunnelTransport: Transport {
  /// What the server is told in `Proxy-Authorization`; nil where it asks nobody.
  var credentials: Credentials? { get }
  /// Told of each attempt to reach the server; nil where nobody wants to know.
  var health: TransportHealth? { get }

  /// Opens a stream to the tunnel's server, ready for a CONNECT request, on `loop`.
  ///
  /// The channel keeps the rules of `Transport`. Fails with `OpenError` at the deadline at the latest.
  func openStream(deadline: NIODeadline, on loop: any EventLoop) -> EventLoopFuture<any Channel>
}

extension TunnelTransport {
  /// Tells nobody.
  public var health: TransportHealth? { nil }

  /// Opens a stream to the server and asks it for the target.
  ///
  /// Names are resolved by the server; what the policy forbids without that is refused here. A stream on
  /// which the request failed is closed.
  public func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    connectThroughServer(request, on: loop)
  }

  /// What `connect` does by default, for a transport that has a `connect` of its own for some requests.
  ///
  /// - Parameter ready: asked once, where the request may go out at all, for a stream to the server that is open
  ///   already; where it gives none, `openStream` opens one.
  public func connectThroughServer(
    _ request: ConnectRequest,
    on loop: any EventLoop,
    over ready: () -> EventLoopFuture<any Channel>? = { nil }
  ) -> EventLoopFuture<any Channel> {
    let target = request.target
    // A frontend of someone else may have made a name of any bytes; they must not become lines of our head.
    guard target.isValid else {
      return loop.makeFailedFuture(OpenError(.nameNotResolved, "the target is no valid host and port"))
    }
    guard request.policy.permits(target) else {
      return loop.makeFailedFuture(
        OpenError(.notAllowed, "\(target) is local, which this request may not reach")
      )
    }
    let exchange = ConnectExchange(target: target, credentials: credentials, leg: request.leg)
    let stream = ready() ?? openStream(deadline: request.deadline, on: loop).hop(to: loop)
    if let health {
      stream.whenComplete { result in
        switch result {
        case .success: health.succeeded()
        case .failure(let error): health.failed(OpenError(error))
        }
      }
    }
    return stream.flatMapErrorThrowing { error in
      throw OpenError(error).ofTunnel
    }.flatMap { channel in
      let opened = loop.makePromise(of: (any Channel).self)
      do {
        let handler = ConnectHandler(exchange, deadline: request.deadline, opened: opened)
        try channel.pipeline.syncOperations.addHandler(handler)
      } catch {
        channel.close(promise: nil)
        opened.fail(OpenError(error))
      }
      return opened.futureResult
    }
  }
}
