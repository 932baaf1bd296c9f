/// How what was found wrong with a config is told to who sent it.
extension ConfigFault {
  static func inBody(_ message: String, _ path: [String], _ place: SourcePosition) -> ConfigFault {
    ConfigFault(message: message, path: path, bodyPath: path, line: place.line, column: place.column)
  }

  var withoutPlace: ConfigFault {
    ConfigFault(message: message, path: path, bodyPath: bodyPath)
  }

  /// - Parameter bodyPrefix: where the text that was sent stands in the whole config; nil where none was.
  init(_ problem: ConfigProblem, bodyPrefix: [String]?) {
    self.init(message: problem.message, path: problem.path)
    if let bodyPrefix, problem.path.starts(with: bodyPrefix) {
      bodyPath = Array(problem.path.dropFirst(bodyPrefix.count))
      line = problem.line
      column = problem.column
    } else if !problem.file.isEmpty {
      message = "\(problem)"
    }
  }
}

extension ConfigChangeError {
  /// The step is that of the first error.
  init(_ errors: RuntimeErrors, bodyPrefix: [String]?) {
    let step: Step = errors.errors.contains { $0.step == .bind } ? .bind : .build
    self = .invalid(step, errors.errors.map { ConfigFault($0.problem, bodyPrefix: bodyPrefix) })
  }
}
