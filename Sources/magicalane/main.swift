import MagicalaneCommand
import MagicalaneCore
import MagicalaneFrontends
import MagicalaneTransports

// Every plugin of the program; a config names them by their `type`.
var plugins = Registry()
plugins.register(SOCKS5Frontend.self)
plugins.register(HTTPConnectFrontend.self)
plugins.register(TCPTransport.self)

await Magicalane.main(plugins)
