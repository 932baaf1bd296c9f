import MagicalaneCore

extension Problem {
  /// A body that reads well and says something wrong.
  static func invalid(_ message: String, at path: [String]) -> Problem {
    Problem(
      422,
      kind: "invalid-config",
      title: "The request says something that cannot be",
      detail: message,
      errors: [Fault(detail: message, pointer: JSONPointer(path))]
    )
  }

  /// Why the config was not changed.
  init(_ error: ConfigChangeError) {
    switch error {
    case .invalid(let step, let faults):
      self.init(step, faults)
    case .preconditionRequired:
      self.init(428, detail: "say by If-Match which version is to be changed; GET shows it as ETag")
    case .preconditionFailed:
      self.init(412, detail: "it is not, or no longer, the version that the request names; get it again")
    case .notFound:
      self.init(404, detail: "\(error)")
    case .builtIn:
      self.init(409, kind: "built-in", title: "Part of the program", detail: "\(error); a PUT changes it")
    case .nothingToRollBack:
      self.init(409, kind: "nothing-to-roll-back", title: "Nothing to roll back", detail: "\(error)")
    case .cannotPersist:
      self.init(409, kind: "cannot-persist", title: "The config file cannot be written", detail: "\(error)")
    case .draining:
      self.init(503, kind: "draining", title: "Shutting down", detail: "\(error)")
    }
  }

  private init(_ step: ConfigChangeError.Step, _ faults: [ConfigFault]) {
    let status =
      switch step {
      case .read: 400
      case .validate, .build: 422
      case .bind, .persist: 409
      }
    let more = faults.count > 1 ? " (and \(faults.count - 1) more)" : ""
    self.init(
      status,
      kind: "invalid-config",
      title: step == .bind ? "The config cannot be put to work" : "The config is not valid",
      detail: (faults.first?.message ?? "") + more,
      errors: faults.map(Fault.init)
    )
    self.step = step.rawValue
  }
}

extension Problem.Fault {
  fileprivate init(_ fault: ConfigFault) {
    self.init(
      detail: fault.message,
      pointer: fault.bodyPath.map(JSONPointer.init),
      configPointer: JSONPointer(fault.path),
      line: fault.line,
      column: fault.column
    )
  }
}
