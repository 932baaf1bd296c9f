import MagicalaneAdaptive
import MagicalaneCore
import MagicalaneFrontends
import MagicalaneTransports

extension Registry {
  /// The plugins that come with magicalane; the only list of them.
  public static var standard: Registry {
    var registry = Registry()
    registry.register(SOCKS5Frontend.self)
    registry.register(HTTPConnectFrontend.self)
    registry.register(TCPTransport.self)
    registry.register(TLSTransport.self)
    registry.register(QUICTransport.self)
    registry.register(AdaptiveTransport.self)
    registry.register(FallbackTransport.self)
    registry.register(FastestTransport.self)
    return registry
  }
}
