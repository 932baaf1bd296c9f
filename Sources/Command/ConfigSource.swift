import MagicalaneCore

struct ConfigSource {
  var name: String
  var directory = "."
  var text = ""
  static func find(_ file: String?) -> ConfigSource { ConfigSource(name: file ?? "") }
  func load(_ registry: Registry) throws -> Configuration { throw Failure.usage("not yet") }
  func describe(_ errors: RuntimeErrors, _ configuration: Configuration) -> String { errors.description }
}
