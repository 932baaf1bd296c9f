import Foundation
import MagicalaneCore

/// Where a config is read from, again at each reload.
enum ConfigSource {
  /// The usual places, or the file that was asked for.
  case location(ConfigLocation)
  /// A text of the program's own, whose relative paths start at `directory`.
  case text(String, name: String, directory: String)

  /// The file that was asked for with `-c`, else the first of the usual places that exists.
  static func find(_ requested: String?) -> ConfigSource {
    .location(.find(requested: requested, environment: ProcessInfo.processInfo.environment))
  }

  /// What messages call it.
  var name: String {
    switch self {
    case .location(.file(let path)): path
    case .location(.embedded): Configuration.defaultName
    case .text(_, let name, _): name
    }
  }

  /// - Throws: `Failure` with every problem that was found, one a line.
  func load(_ registry: Registry) throws(Failure) -> Configuration {
    let environment = ProcessInfo.processInfo.environment
    do {
      switch self {
      case .location(let location):
        return try Configuration.load(location, registry: registry, environment: environment)
      case .text(let text, let name, let directory):
        return try Configuration.load(
          text: text,
          file: "\(directory)/\(name)",
          registry: registry,
          environment: environment
        )
      }
    } catch {
      throw Failure.usage("\(error)")
    }
  }
}
