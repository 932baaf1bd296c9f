/// Why one entry of a config could not be put to work.
public struct RuntimeError: Error, CustomStringConvertible {
  /// What was being done.
  public enum Step: String, Sendable {
    /// Options were checked, files read.
    case build
    /// A listener was bound.
    case bind
  }

  /// Where in the transaction it was found.
  public var step: Step
  /// What was wrong, and where the config says it.
  public var problem: ConfigProblem
  /// What the plugin threw.
  public var cause: any Error

  /// `FILE:LINE:COLUMN: message`
  public var description: String { "\(problem)" }

  init(_ step: Step, _ problem: ConfigProblem, cause: any Error) {
    self.step = step
    self.problem = problem
    self.cause = cause
  }
}

/// Every reason why a config could not be put to work; never empty.
public struct RuntimeErrors: Error, CustomStringConvertible {
  /// In the order in which they were found.
  public var errors: [RuntimeError]

  /// One a line.
  public var description: String { errors.map(\.description).joined(separator: "\n") }

  init(_ errors: [RuntimeError]) {
    self.errors = errors
  }
}
