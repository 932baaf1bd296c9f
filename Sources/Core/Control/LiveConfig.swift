import Foundation
import Logging

/// The config that runs, the ones before it, and the one road by which it changes.
///
/// A change is a transaction: read ──► validate ──► build ──► bind ──► swap ──► drain the old. Where a step
/// fails nothing has changed. Changes happen one after the other, whoever asks for them: a signal, the admin
/// API, the command line.
public actor LiveConfig {
  /// A config and when it came.
  public struct Applied: Sendable {
    /// Counts up from 1 with each config that differs from the one before.
    public var generation: Int
    /// When it was applied.
    public var time: Date
    /// Who applied it.
    public var origin: ConfigOrigin
    /// The config itself.
    public var configuration: Configuration
  }

  /// How many earlier configs are kept.
  private static let mostEarlier = 10

  /// What goes by the config.
  public nonisolated let runtime: Runtime
  /// Where it comes from.
  public nonisolated let source: ConfigSource
  private let logger: Logger
  private var followers: [any ConfigFollower] = []
  private var history: [Applied] = []
  private var generation = 0
  private let tags = ConfigTags()
  /// The config file as it was when it was read or written last.
  private var fileStamp: String?
  private var last: Task<Void, Never>?

  /// A config for a runtime that has none yet.
  public init(runtime: Runtime, source: ConfigSource, logger: Logger) {
    self.runtime = runtime
    self.source = source
    self.logger = logger
  }

  /// Adds a part that goes by the config too; call it before `start`.
  public func add(_ follower: any ConfigFollower) {
    followers.append(follower)
  }

  /// The config that runs; nil before `start`.
  public var current: Applied? { history.last }

  /// Why the program is not ready for new sessions, one reason each; empty where it is.
  public var reasonsNotReady: [String] {
    get async {
      guard current != nil else { return ["the config is not applied yet"] }
      if await runtime.status.isDraining { return ["the program is shutting down"] }
      return await runtime.frontendStatuses.filter { $0.state == .lost }
        .map { "frontend '\($0.name)' does not listen" }
    }
  }

  /// Puts the first config to work.
  public func start(_ configuration: Configuration) async throws(ConfigChangeError) {
    fileStamp = source.file.map { FileStamp($0).text }
    _ = try await exclusively { live throws(ConfigChangeError) in
      try await live.apply(configuration, from: .start, ConfigChangeOptions(), bodyPrefix: nil, verbatim: nil)
    }
  }

  /// Changes the config, or says why it does not.
  public func change(
    _ edit: ConfigEdit,
    _ options: ConfigChangeOptions = ConfigChangeOptions()
  ) async throws(ConfigChangeError) -> ConfigChange {
    do {
      return try await exclusively { live throws(ConfigChangeError) in try await live.perform(edit, options) }
    } catch {
      tellRefused(edit, error)
      throw error
    }
  }

  private func tellRefused(_ edit: ConfigEdit, _ error: ConfigChangeError) {
    guard case .invalid = error else { return }
    logger.log(
      level: edit.origin == .reload ? .error : .warning,
      "config refused, the one before goes on",
      metadata: ["origin": "\(edit.origin.rawValue)", "config": "\(source.name)", "error": "\(error)"]
    )
    runtime.events.publish(.configRefused(origin: edit.origin, reason: "\(error)"))
  }
}

// MARK: To show

extension LiveConfig {
  /// The whole config as it is written, secrets replaced, and its tag.
  public var shown: (node: ConfigNode, yaml: String, tag: String) {
    guard let configuration = current?.configuration else { return (.null, "", tag) }
    let document = configuration.document.redacting(configuration.secrets)
    return (document.node, document.yamlText(), tag)
  }

  /// One entry as it is written, secrets replaced, and its tag.
  ///
  /// - Returns: nil where there is none of that name. The transport `direct` is always there.
  public func shown(_ name: String, in section: ConfigSection) -> (node: ConfigNode, tag: String)? {
    guard let configuration = current?.configuration, let entry = entry(name, in: section) else { return nil }
    let index = configuration.document.index(of: name, in: section)
    let path = [section.rawValue, index.map { "\($0)" } ?? name]
    return (entry.redacting(configuration.secrets, at: path).node, tags.tag(of: entry))
  }

  /// The tag of the whole config.
  public var tag: String { tags.tag(ofGeneration: generation) }

  private func entry(_ name: String, in section: ConfigSection) -> ConfigValue? {
    let configuration = current?.configuration
    if let written = configuration?.document.entry(name, in: section) { return written }
    // `direct` is in every config, written or not.
    guard section == .transports else { return nil }
    return configuration?.transports.first { $0.name == name }?.origin.value
  }
}

// MARK: One after the other

extension LiveConfig {
  /// Runs `body` when all changes before it are done: an actor alone would let them mix at each `await`.
  private func exclusively<T: Sendable>(
    _ body: @escaping @Sendable (isolated LiveConfig) async throws(ConfigChangeError) -> T
  ) async throws(ConfigChangeError) -> T {
    let before = last
    let task = Task { () async -> Result<T, ConfigChangeError> in
      await before?.value
      do throws(ConfigChangeError) {
        return .success(try await body(self))
      } catch {
        return .failure(error)
      }
    }
    last = Task { _ = await task.value }
    return try await task.value.get()
  }
}

// MARK: Edits

extension LiveConfig {
  private func perform(
    _ edit: ConfigEdit,
    _ options: ConfigChangeOptions
  ) async throws(ConfigChangeError) -> ConfigChange {
    if await runtime.status.isDraining { throw .draining }
    switch edit {
    case .replace(let text):
      try check(options.precondition, tag: tag, isRequired: true)
      let body = try parse(text, bodyPrefix: [])
      let document = keepingSecrets(body)
      let isVerbatim = text.format == .yaml && document.canonicalText == body.canonicalText
      return try await apply(
        document,
        from: .api,
        options,
        bodyPrefix: [],
        verbatim: isVerbatim ? text.text : nil
      )
    case .put(let section, let name, let text):
      return try await put(section, name, text, options)
    case .patch(let section, let name, let text):
      guard let old = entry(name, in: section) else { throw .notFound(section, name) }
      try check(options.precondition, tag: tags.tag(of: old), isRequired: true)
      let patch = try parse(text, bodyPrefix: nil)
      do throws(ConfigChangeError) {
        return try await set(old.merging(patch), section, name, options)
      } catch .invalid(let step, let faults) {
        // A place in what was merged is a place in neither text.
        throw .invalid(step, faults.map(\.withoutPlace))
      }
    case .delete(let section, let name):
      return try await delete(section, name, options)
    case .rollback:
      try check(options.precondition, tag: tag, isRequired: false)
      guard history.count > 1 else { throw .nothingToRollBack }
      return try await apply(
        history[history.count - 2].configuration.document,
        from: .rollback,
        options,
        bodyPrefix: nil,
        verbatim: nil
      )
    case .reload:
      try check(options.precondition, tag: tag, isRequired: false)
      return try await reload(options)
    }
  }

  private func put(
    _ section: ConfigSection,
    _ name: String,
    _ text: ConfigText,
    _ options: ConfigChangeOptions
  ) async throws(ConfigChangeError) -> ConfigChange {
    let old = entry(name, in: section)
    try check(options.precondition, tag: old.map(tags.tag(of:)), isRequired: old != nil)
    let body = try parse(text, bodyPrefix: [])
    var change = try await set(body, section, name, options)
    change.isNewEntry = old == nil
    return change
  }

  /// Puts an entry in its place. What it says of its name must agree, and what was shown beside it is left out.
  private func set(
    _ entry: ConfigValue,
    _ section: ConfigSection,
    _ name: String,
    _ options: ConfigChangeOptions
  ) async throws(ConfigChangeError) -> ConfigChange {
    guard case .mapping = entry.content else {
      throw .invalid(.validate, [.inBody("expected a mapping, found \(entry.found)", [], entry.position)])
    }
    if let given = entry["name"], given.scalar?.text != name {
      let message = "'name' must be \(name.quotedForMessage), as in the path, or left out"
      throw .invalid(.validate, [.inBody(message, ["name"], given.position)])
    }
    let scalar = ConfigValue.Scalar(text: name, written: name, isPlain: true)
    let nameValue = ConfigValue(content: .scalar(scalar), position: entry.position)
    let named = entry.removing(Self.statusKey).setting("name", to: nameValue)
    let base = current?.configuration.document ?? ConfigValue(content: .mapping([]), position: .start)
    let document = keepingSecrets(base.setting(named, named: name, in: section))
    let index = document.index(of: name, in: section) ?? 0
    var change = try await apply(
      document,
      from: .api,
      options,
      bodyPrefix: [section.rawValue, "\(index)"],
      verbatim: nil
    )
    change.entryTag = document.entry(name, in: section).map(tags.tag(of:))
    return change
  }

  /// The key under which the admin API shows an entry's state beside what the config says.
  public static let statusKey = "status"

  private func delete(
    _ section: ConfigSection,
    _ name: String,
    _ options: ConfigChangeOptions
  ) async throws(ConfigChangeError) -> ConfigChange {
    guard let old = entry(name, in: section) else { throw .notFound(section, name) }
    try check(options.precondition, tag: tags.tag(of: old), isRequired: true)
    guard let document = current?.configuration.document, document.entry(name, in: section) != nil else {
      throw .builtIn(section, name)
    }
    return try await apply(
      document.removing(name, from: section),
      from: .api,
      options,
      bodyPrefix: nil,
      verbatim: nil
    )
  }

  private func reload(_ options: ConfigChangeOptions) async throws(ConfigChangeError) -> ConfigChange {
    let stamp = source.file.map { FileStamp($0).text }
    let configuration: Configuration
    do {
      configuration = try source.load()
    } catch {
      throw .invalid(.validate, error.problems.map { ConfigFault($0, bodyPrefix: nil) })
    }
    let change = try await apply(configuration, from: .reload, options, bodyPrefix: nil, verbatim: nil)
    if !options.isDryRun { fileStamp = stamp }
    return change
  }

  private func check(
    _ precondition: ConfigPrecondition,
    tag: String?,
    isRequired: Bool
  ) throws(ConfigChangeError) {
    switch precondition {
    case .none: if isRequired { throw .preconditionRequired }
    case .exists: if tag == nil { throw .preconditionFailed }
    case .absent: if tag != nil { throw .preconditionFailed }
    case .matches(let tags):
      guard let tag, tags.contains(tag) else { throw .preconditionFailed }
    }
  }

  private func parse(_ text: ConfigText, bodyPrefix: [String]?) throws(ConfigChangeError) -> ConfigValue {
    do {
      return try source.parse(text)
    } catch {
      throw .invalid(.read, error.problems.map { ConfigFault($0, bodyPrefix: bodyPrefix ?? []) })
    }
  }

  private func keepingSecrets(_ document: ConfigValue) -> ConfigValue {
    guard let configuration = current?.configuration else { return document }
    return document.keepingSecrets(of: configuration.document, configuration.secrets)
  }
}

// MARK: Apply

extension LiveConfig {
  private func apply(
    _ document: ConfigValue,
    from origin: ConfigOrigin,
    _ options: ConfigChangeOptions,
    bodyPrefix: [String]?,
    verbatim: String?
  ) async throws(ConfigChangeError) -> ConfigChange {
    let configuration: Configuration
    do {
      configuration = try source.check(document, directory: current?.configuration.directory ?? ".")
    } catch {
      throw .invalid(.validate, error.problems.map { ConfigFault($0, bodyPrefix: bodyPrefix) })
    }
    let unkept = configuration.secrets.sorted { $0.lexicographicallyPrecedes($1) }.filter {
      document.value(at: $0)?.scalar?.text == ConfigValue.redacted
    }
    guard unkept.isEmpty else {
      throw .invalid(
        .validate,
        unkept.map { path in
          let place = document.value(at: path)?.position ?? .start
          let message =
            "'\(path.dottedPath)' is '\(ConfigValue.redacted)', and there is no secret before it to keep"
          let problem = ConfigProblem(
            file: "",
            line: place.line,
            column: place.column,
            path: path,
            message: message
          )
          return ConfigFault(problem, bodyPrefix: bodyPrefix)
        }
      )
    }
    return try await apply(
      configuration,
      from: origin,
      options,
      bodyPrefix: bodyPrefix,
      verbatim: verbatim
    )
  }

  private func apply(
    _ configuration: Configuration,
    from origin: ConfigOrigin,
    _ options: ConfigChangeOptions,
    bodyPrefix: [String]?,
    verbatim: String?
  ) async throws(ConfigChangeError) -> ConfigChange {
    var change = ConfigChange(
      generation: generation,
      origin: origin,
      difference: ConfigDifference(from: current?.configuration, to: configuration),
      tag: tag
    )
    if options.isDryRun {
      change.isDryRun = true
      do {
        try await runtime.check(configuration)
      } catch {
        throw ConfigChangeError(error, bodyPrefix: bodyPrefix)
      }
      return change
    }
    let file = try options.persists ? replaceableFile() : nil
    let text = verbatim ?? configuration.document.yamlText()
    if let file {
      let replacement = try ConfigReplacement(of: file, with: text)
      do throws(ConfigChangeError) {
        try await put(configuration, bodyPrefix)
      } catch {
        replacement.cancel()
        throw error
      }
      record(configuration, from: origin)
      do throws(ConfigChangeError) {
        try replacement.commit()
      } catch {
        throw .cannotPersist(reason: "it runs, but its file could not be replaced: \(error)")
      }
      fileStamp = FileStamp(file).text
      change.persistedTo = ConfigReplacement.resolved(file)
    } else {
      try await put(configuration, bodyPrefix)
      record(configuration, from: origin)
    }
    change.generation = generation
    change.tag = tag
    tell(change)
    return change
  }

  /// Everything but the swap can fail, and takes back what was prepared then.
  private func put(_ configuration: Configuration, _ bodyPrefix: [String]?) async throws(ConfigChangeError) {
    var prepared: [PreparedChange] = []
    do {
      for follower in followers {
        try await prepared.append(follower.prepare(configuration, inPlaceOf: current?.configuration))
      }
      try await runtime.apply(configuration)
    } catch {
      for change in prepared { await change.cancel() }
      if let errors = error as? RuntimeErrors { throw ConfigChangeError(errors, bodyPrefix: bodyPrefix) }
      let path = (error as? PluginError)?.path ?? []
      let place = configuration.document.value(at: path)?.position ?? .start
      let problem = ConfigProblem(
        file: source.name,
        line: place.line,
        column: place.column,
        path: path,
        message: "'\(path.dottedPath)': \(error)"
      )
      throw .invalid(.bind, [ConfigFault(problem, bodyPrefix: bodyPrefix)])
    }
    for change in prepared { await change.commit() }
  }

  /// Puts a config on top of the history; going back takes the top away instead.
  private func record(_ configuration: Configuration, from origin: ConfigOrigin) {
    let isSame = current?.configuration.document.canonicalText == configuration.document.canonicalText
    if let current, isSame, ConfigDifference(from: current.configuration, to: configuration).isEmpty {
      return
    }
    generation += 1
    let applied = Applied(
      generation: generation,
      time: .now,
      origin: origin,
      configuration: configuration
    )
    if origin == .rollback { history.removeLast(2) }
    history.append(applied)
    if history.count > Self.mostEarlier + 1 { history.removeFirst() }
  }

  private func tell(_ change: ConfigChange) {
    guard change.origin != .start else { return }
    logger.notice(
      "config applied",
      metadata: [
        "config": "\(source.name)", "origin": "\(change.origin.rawValue)",
        "generation": "\(change.generation)",
      ]
    )
    runtime.events.publish(.configApplied(change))
  }

  private func replaceableFile() throws(ConfigChangeError) -> String {
    guard let file = source.file else {
      throw .cannotPersist(reason: "the program was not started with a config file")
    }
    guard FileStamp(file).text == fileStamp else {
      throw .cannotPersist(reason: "\(file) was changed since it was read; reload it first")
    }
    return file
  }
}

extension ConfigEdit {
  /// Who asks for such a change.
  fileprivate var origin: ConfigOrigin {
    switch self {
    case .replace, .put, .patch, .delete: .api
    case .rollback: .rollback
    case .reload: .reload
    }
  }
}
