import MagicalaneCommand
import MagicalaneCore
import UnixSocketTransport

var plugins = Registry.standard
plugins.register(UnixSocketTransport.self)
await Magicalane.main(plugins)
