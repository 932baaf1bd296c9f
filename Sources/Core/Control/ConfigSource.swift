#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Where a program gets its config from, again at each reload, and what it needs to read it.
public struct ConfigSource: Sendable {
  /// The place of the text.
  public enum Place: Sendable {
    /// A file, or the default config.
    case location(ConfigLocation)
    /// A text of the program's own, whose relative paths start at `directory`.
    case text(String, name: String, directory: String)
  }

  /// The place of the text.
  public var place: Place
  /// The plugins that a config may name.
  public var registry: Registry
  /// Where `${NAME}` is looked up.
  public var environment: [String: String]
  /// What holds where `limits:` says nothing.
  public var defaults: Limits

  /// A source from its parts.
  public init(
    _ place: Place,
    registry: Registry,
    environment: [String: String],
    defaults: Limits = Limits()
  ) {
    self.place = place
    self.registry = registry
    self.environment = environment
    self.defaults = defaults
  }

  /// What messages call it.
  public var name: String {
    switch place {
    case .location(.file(let path)): path
    case .location(.embedded): Configuration.defaultName
    case .text(_, let name, _): name
    }
  }

  /// The file, where it is one.
  public var file: String? {
    if case .location(.file(let path)) = place { path } else { nil }
  }

  /// Reads the config as it stands now.
  ///
  /// - Throws: every problem that was found.
  public func load() throws(ConfigErrors) -> Configuration {
    switch place {
    case .location(let location):
      try Configuration.load(
        location,
        registry: registry,
        environment: environment,
        defaults: defaults
      )
    case .text(let text, let name, let directory):
      try Configuration.load(
        text: text,
        file: "\(directory)/\(name)",
        registry: registry,
        environment: environment,
        defaults: defaults
      )
    }
  }

  /// Reads a text that somebody sent into a tree, without a look at what its keys mean.
  ///
  /// - Throws: what is wrong with its form.
  func parse(_ text: ConfigText) throws(ConfigErrors) -> ConfigValue {
    let findings = ConfigFindings(file: Self.bodyName)
    let yaml: String
    switch text.format {
    case .yaml: yaml = text.text
    case .json: yaml = try JSONText.yaml(text.text, file: Self.bodyName)
    }
    let value = ConfigDocument.read(yaml, environment: environment, into: findings)
    guard let value, findings.problems.isEmpty else { throw ConfigErrors(findings.problems) }
    return value
  }

  /// Checks a tree, of one text or put together from several, as a config in the place of what `load` reads.
  func check(_ document: ConfigValue, directory: String) throws(ConfigErrors) -> Configuration {
    try Configuration.load(
      document: document,
      file: "",
      directory: directory,
      registry: registry,
      defaults: defaults
    )
  }

  /// What messages call a text that came through the admin API.
  private static let bodyName = "request"
}
