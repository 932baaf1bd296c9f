/// What reading one file brings to light: problems, the keys that somebody asked for, and which values are secret.
///
/// Used by one thread while it reads one file.
final class ConfigFindings {
  let file: String
  var root = ConfigValue(content: .null, position: .start)
  private(set) var problems: [ConfigProblem] = []
  private var reported: Set<ConfigProblem> = []
  private var reportedPaths: [[String]: Int] = [:]
  private(set) var secrets: Set<[String]> = []
  /// The files that values name, by the paths of those values.
  private(set) var files: [[String]: FilePath] = [:]

  /// The keys of each mapping that was read, and whether they are all of them.
  private struct KnownKeys {
    var keys: Set<String> = []
    var isComplete = true
  }
  private var known: [[String]: KnownKeys] = [:]

  init(file: String) {
    self.file = file
  }

  // MARK: Problems

  func problem(_ message: String, at position: SourcePosition, path: [String]) -> ConfigProblem {
    ConfigProblem(file: file, line: position.line, column: position.column, path: path, message: message)
  }

  /// A place as a message ends with it; nothing where the tree was put together from several texts.
  func at(_ position: SourcePosition) -> String {
    file.isEmpty ? "" : " at \(file):\(position.line):\(position.column)"
  }

  func report(_ problem: ConfigProblem) {
    guard reported.insert(problem).inserted else { return }
    reportedPaths[problem.path, default: 0] += 1
    problems.append(problem)
  }

  /// Runs `body` and takes back what it reported: for a type that tries one form and then another.
  func retracting<T>(_ body: () -> T) -> (result: T, retracted: [ConfigProblem]) {
    let count = problems.count
    let result = body()
    let retracted = Array(problems[count...])
    problems.removeLast(retracted.count)
    for problem in retracted {
      reported.remove(problem)
      reportedPaths[problem.path, default: 1] -= 1
    }
    return (result, retracted)
  }

  /// Reports a problem unless one is known for that path already: one mistake, one message.
  func report(_ message: String, at position: SourcePosition, path: [String]) {
    if !hasProblem(at: path) {
      report(problem(message, at: position, path: path))
    }
  }

  /// Reports a problem with the value at `path`, behind the name of its key.
  func report(value path: [String], _ message: String) {
    let position = root.value(at: path)?.position ?? root.keyPosition(at: path)
    report("\(name(of: path)): \(message)", at: position, path: path)
  }

  /// Reports what a plugin found wrong with its entry, at the key that it names.
  func report(_ error: PluginError, in path: [String]) {
    let full = path + error.path
    report("\(name(of: full)): \(error.description)", at: root.keyPosition(at: full), path: full)
  }

  func hasProblem(at path: [String]) -> Bool {
    reportedPaths[path, default: 0] > 0
  }

  func hasProblem(within path: [String]) -> Bool {
    problems.contains { $0.path.starts(with: path) }
  }

  // MARK: Secrets

  func addSecret(_ path: [String]) {
    secrets.insert(path)
  }

  // MARK: Files

  func addFile(_ file: FilePath, _ path: [String]) {
    files[path] = file
  }

  // MARK: Keys

  /// Somebody reads the mapping at `path` and knows these keys.
  func expect(_ keys: some Sequence<String>, at path: [String]) {
    known[path, default: KnownKeys()].keys.formUnion(keys)
  }

  /// Somebody who reads the mapping at `path` may know more keys than it could ask for.
  func abandon(_ path: [String]) {
    known[path, default: KnownKeys()].isComplete = false
  }

  /// Reports the keys that nobody asked for; to be called when all readers of all mappings are done.
  ///
  /// Where a reader gave up, a key is unknown for certain only if it is a missing one misspelt.
  func reportUnknownKeys() {
    for (path, known) in known {
      guard let mapping = root.value(at: path) else { continue }
      let missing = known.keys.filter { mapping[$0] == nil && hasProblem(at: path + [$0]) }
      for member in mapping.members where !known.keys.contains(member.key) {
        if known.isComplete || member.key.nearest(among: missing) != nil {
          reportUnknown(member, among: known.keys.sorted(), in: path)
        }
      }
    }
  }

  private func reportUnknown(_ member: ConfigValue.Member, among keys: [String], in path: [String]) {
    let place = path.isEmpty ? "" : " in \(placeName(of: path))"
    let advice =
      if let near = member.key.nearest(among: keys) {
        "; did you mean '\(near)'?"
      } else if keys.isEmpty {
        "; it has no keys"
      } else {
        "; known keys: \(keys.joined(separator: ", "))"
      }
    report(
      "unknown key \(member.key.quotedForMessage)\(place)\(advice)",
      at: member.position,
      path: path + [member.key]
    )
  }

  // MARK: Names for messages

  /// What a message calls the value at `path`: `'tls.certificate' in frontend 'edge'`.
  func name(of path: [String]) -> String {
    let (entry, rest) = split(path)
    switch (entry, rest.dottedPath) {
    case (nil, ""): return "the file"
    case (nil, let key): return "'\(key)'"
    case (_?, _) where path.count == 1: return "'\(path[0])'"
    case (let entry?, ""): return entry
    case (let entry?, let key): return "'\(key)' in \(entry)"
    }
  }

  /// What a message calls the mapping at `path` after "in": `'tls' of frontend 'edge'`.
  func placeName(of path: [String]) -> String {
    let (entry, rest) = split(path)
    switch (entry, rest.dottedPath) {
    case (nil, ""): return "the file"
    case (nil, let key): return "'\(key)'"
    case (let entry?, ""): return entry
    case (let entry?, let key): return "'\(key)' of \(entry)"
    }
  }

  /// Cuts off the entry or section that a path leads through.
  private func split(_ path: [String]) -> (entry: String?, rest: ArraySlice<String>) {
    guard let section = path.first, path.count > 1 || root[section].map({ !$0.members.isEmpty }) == true
    else {
      return (nil, path[...])
    }
    guard ["frontends", "transports"].contains(section) else { return (section, path.dropFirst()) }
    guard path.count > 1 else { return (nil, path[...]) }
    if let name = root.value(at: path.prefix(2))?["name"]?.scalar?.written {
      return ("\(section.dropLast()) \(name.quotedForMessage)", path.dropFirst(2))
    }
    return ("\(section)[\(path[1])]", path.dropFirst(2))
  }
}

extension Sequence<String> {
  /// Keys and list indexes as a message shows them: `users[0].name`.
  var dottedPath: String {
    reduce(into: "") { text, step in
      if Int(step) != nil {
        text += "[\(step)]"
      } else {
        text += text.isEmpty ? step : ".\(step)"
      }
    }
  }
}
