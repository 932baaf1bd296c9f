/// What a change of the config did, or would do.
public struct ConfigChange: Sendable {
  /// Of the config that runs after it; it counts up with each that differs from the one before.
  public var generation: Int
  /// Who changed it.
  public var origin: ConfigOrigin
  /// How the two configs differ.
  public var difference: ConfigDifference
  /// The tag of the whole config after it; of the one that still runs where nothing was changed.
  public var tag: String
  /// The tag of the entry that was put or patched.
  public var entryTag: String?
  /// Whether the entry that was put is new.
  public var isNewEntry = false
  /// Nothing was changed: only a look was asked for.
  public var isDryRun = false
  /// Where the config was written to; nil where that was not asked for.
  public var persistedTo: String?
}

/// Which entries of two configs differ; those that differ in form alone do not.
public struct ConfigDifference: Sendable, Equatable {
  /// Names of entries, sorted.
  public struct Entries: Sendable, Equatable, Codable {
    /// In the new config alone.
    public var added: [String] = []
    /// In both, with another effect.
    public var changed: [String] = []
    /// In the old config alone.
    public var removed: [String] = []

    /// Whether no entry differs.
    public var isEmpty: Bool { added.isEmpty && changed.isEmpty && removed.isEmpty }
  }

  /// Under `frontends:`.
  public var frontends = Entries()
  /// Under `transports:`.
  public var transports = Entries()
  /// The other sections that differ: `admin`, `limits`, `log`, `resolver`.
  public var sections: [String] = []

  /// Whether both have the same effect.
  public var isEmpty: Bool { frontends.isEmpty && transports.isEmpty && sections.isEmpty }

  init(from old: Configuration?, to new: Configuration) {
    frontends = .init(
      old?.frontends.map { ($0.name, $0.fingerprint) } ?? [],
      new.frontends.map { ($0.name, $0.fingerprint) }
    )
    transports = .init(
      old?.transports.map { ($0.name, $0.fingerprint) } ?? [],
      new.transports.map { ($0.name, $0.fingerprint) }
    )
    if old?.admin != new.admin { sections.append("admin") }
    if old?.limits != new.limits { sections.append("limits") }
    if old?.log != new.log { sections.append("log") }
    if old?.resolver != new.resolver { sections.append("resolver") }
  }
}

extension ConfigDifference.Entries {
  fileprivate init(_ old: [(String, String)], _ new: [(String, String)]) {
    let old = Dictionary(old, uniquingKeysWith: { first, _ in first })
    let new = Dictionary(new, uniquingKeysWith: { first, _ in first })
    added = new.keys.filter { old[$0] == nil }.sorted()
    changed = new.filter { name, text in old[name].map { $0 != text } ?? false }.keys.sorted()
    removed = old.keys.filter { new[$0] == nil }.sorted()
  }
}

/// One thing that is wrong with a change.
public struct ConfigFault: Sendable, Equatable {
  /// What is wrong and what would be right, in one line.
  public var message: String
  /// The keys and list indexes that lead to it in the whole config, as it would be.
  public var path: [String]
  /// The same in the text that was sent; nil where the fault lies outside it.
  public var bodyPath: [String]?
  /// Where it stands in the text that was sent, both from 1.
  public var line: Int?
  /// See `line`.
  public var column: Int?
}

/// Why the config was not changed.
public enum ConfigChangeError: Error, Sendable {
  /// How far a change came.
  public enum Step: String, Sendable, CaseIterable, Codable {
    /// The text was read.
    case read
    /// Keys and values were checked.
    case validate
    /// Plugins checked their options and read their files.
    case build
    /// Listeners were bound.
    case bind
    /// The config file was written.
    case persist
  }

  /// Something is wrong with what was asked for; nothing has changed.
  case invalid(Step, [ConfigFault])
  /// The config, or the entry, is there, and who changes it must say which version was seen.
  case preconditionRequired
  /// It is not what the caller takes it for.
  case preconditionFailed
  /// No entry has that name.
  case notFound(ConfigSection, String)
  /// The entry is part of the program.
  case builtIn(ConfigSection, String)
  /// There is no config before this one.
  case nothingToRollBack
  /// The config cannot be written; it holds for `persist` alone.
  case cannotPersist(reason: String)
  /// The program is shutting down.
  case draining
}

extension ConfigChangeError: CustomStringConvertible {
  /// One fault a line.
  public var description: String {
    switch self {
    case .invalid(_, let faults): faults.map(\.message).joined(separator: "\n")
    case .preconditionRequired: "it must be said which version is to be changed"
    case .preconditionFailed: "it was changed by somebody else"
    case .notFound(let section, let name): "there is no \(section.singular) '\(name)'"
    case .builtIn(let section, let name): "the \(section.singular) '\(name)' is always there"
    case .nothingToRollBack: "there is no earlier config"
    case .cannotPersist(let reason): "the config cannot be written: \(reason)"
    case .draining: "the program is shutting down"
    }
  }
}
