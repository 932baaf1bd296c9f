/// One thing that is wrong with a config file, in the form that compilers use.
///
/// A wrong value points at the value. A key that is unknown, doubled, or refused by its plugin points at the
/// key, and a missing one at the mapping that lacks it.
public struct ConfigProblem: Error, Hashable, Sendable {
  /// The file as it was named to `Configuration.load`.
  public var file: String
  /// From 1.
  public var line: Int
  /// From 1, in Unicode scalars.
  public var column: Int
  /// The keys and list indexes that lead to it: `["frontends", "0", "tls", "certificate"]`.
  public var path: [String]
  /// One line that names the key and says what was expected. It holds no value that came from the environment.
  public var message: String

  /// A problem at a place in a file.
  public init(file: String, line: Int, column: Int, path: [String] = [], message: String) {
    self.file = file
    self.line = line
    self.column = column
    self.path = path
    self.message = message
  }
}

extension ConfigProblem: CustomStringConvertible {
  /// `FILE:LINE:COLUMN: message`
  public var description: String { "\(file):\(line):\(column): \(message)" }
}

/// Everything that is wrong with a config file, in the order of the file; never empty.
public struct ConfigErrors: Error, Hashable, Sendable {
  /// Sorted by position.
  public let problems: [ConfigProblem]

  /// Puts the problems in the order of the file.
  public init(_ problems: [ConfigProblem]) {
    self.problems = problems.sorted { ($0.line, $0.column, $0.message) < ($1.line, $1.column, $1.message) }
  }
}

extension ConfigErrors: CustomStringConvertible {
  /// One problem a line.
  public var description: String { problems.map(\.description).joined(separator: "\n") }
}
