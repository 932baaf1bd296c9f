/// A list of entries in the config.
public enum ConfigSection: String, Sendable, CaseIterable {
  case frontends
  case transports

  /// One of its entries, for messages.
  public var singular: String { String(rawValue.dropLast()) }
}

/// A piece of config as somebody sent it.
public struct ConfigText: Sendable {
  /// How it is written.
  public enum Format: Sendable { case yaml, json }
  /// The text; `${NAME}` in it is replaced from the environment as in a file.
  public var text: String
  /// How it is written.
  public var format: Format

  /// A text in its format.
  public init(_ text: String, _ format: Format) {
    self.text = text
    self.format = format
  }
}

/// A change of the config that runs.
public enum ConfigEdit: Sendable {
  /// A whole config in the place of the one before.
  case replace(ConfigText)
  /// One entry, new or in the place of the one of that name.
  case put(ConfigSection, name: String, ConfigText)
  /// One entry, changed by a merge patch (RFC 7396).
  case patch(ConfigSection, name: String, ConfigText)
  /// One entry less.
  case delete(ConfigSection, name: String)
  /// Back to the config before the one that runs.
  case rollback
  /// The config as it stands now where the program got it from.
  case reload
}

/// Who changed the config.
public enum ConfigOrigin: String, Sendable, CaseIterable, Codable {
  /// It is the first one.
  case start
  /// Read again, by SIGHUP or because somebody asked.
  case reload
  /// Through the admin API.
  case api
  /// Back to an earlier one.
  case rollback
}

/// What must hold for a change to be made (RFC 9110 §13.1).
public enum ConfigPrecondition: Sendable, Equatable {
  /// None was given.
  case none
  /// `If-Match: *`: it is there, whatever it says.
  case exists
  /// `If-Match`: it is one of these.
  case matches(Set<String>)
  /// `If-None-Match: *`: it is not there.
  case absent
}

/// How a change is to be made.
public struct ConfigChangeOptions: Sendable {
  /// What must hold.
  public var precondition: ConfigPrecondition
  /// Check and build only, and say what would change.
  public var isDryRun: Bool
  /// Write the config to the file that the program was started with.
  public var persists: Bool

  /// - Parameters as the properties.
  public init(precondition: ConfigPrecondition = .none, isDryRun: Bool = false, persists: Bool = false) {
    self.precondition = precondition
    self.isDryRun = isDryRun
    self.persists = persists
  }
}
