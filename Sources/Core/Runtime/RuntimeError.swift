/// Why one entry of a config could not be put to work.
public struct RuntimeError: Error, CustomStringConvertible {
  public enum Step: String, Sendable { case build, bind }
  public enum Section: String, Sendable { case frontends, transports }

  public var step: Step
  public var section: Section
  /// The `name:` of the entry.
  public var name: String
  /// The key that is at fault, from the entry; empty for the entry itself.
  public var path: [String]
  public var cause: any Error

  public var description: String { "\(section) '\(name)': \(cause)" }

  init(_ step: Step, _ section: Section, _ name: String, cause: any Error) {
    self.step = step
    self.section = section
    self.name = name
    self.path = (cause as? PluginError)?.path ?? (step == .bind ? ["listen"] : [])
    self.cause = cause
  }
}

/// Every reason why a config could not be put to work; never empty.
public struct RuntimeErrors: Error, CustomStringConvertible {
  public var errors: [RuntimeError]

  public var description: String { errors.map(\.description).joined(separator: "\n") }

  init(_ errors: [RuntimeError]) {
    self.errors = errors
  }
}
