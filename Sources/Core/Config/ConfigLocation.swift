#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Where the config comes from.
public enum ConfigLocation: Hashable, Sendable {
  case file(String)
  /// The default config, which is part of the program.
  case embedded

  /// The file that was asked for, else the first that exists of `./magicalane.yaml`,
  /// `$XDG_CONFIG_HOME/magicalane/config.yaml` and `/etc/magicalane/config.yaml`, else the default config.
  ///
  /// A file that was asked for is not looked for elsewhere. As the XDG Base Directory Specification has it, a
  /// variable that is empty or no absolute path counts as unset, and `$HOME/.config` takes its place.
  public static func find(
    requested: String? = nil,
    environment: [String: String],
    exists: (String) -> Bool = ConfigLocation.exists
  ) -> ConfigLocation {
    if let requested { return .file(requested) }
    return searchPath(environment).first(where: exists).map { .file($0) } ?? .embedded
  }

  /// The paths that are tried without `-c`, in this order.
  public static func searchPath(_ environment: [String: String]) -> [String] {
    var directories: [String] = []
    if let xdg = environment["XDG_CONFIG_HOME"], xdg.hasPrefix("/") {
      directories.append(xdg)
    } else if let home = environment["HOME"], home.hasPrefix("/") {
      directories.append("\(home)/.config")
    }
    directories.append("/etc")
    return ["./magicalane.yaml"] + directories.map { "\($0)/magicalane/config.yaml" }
  }

  /// Whether there is something at this path, readable or not: a file that cannot be read is an error and no
  /// reason to take the next one.
  public static func exists(_ path: String) -> Bool {
    access(path, F_OK) == 0
  }
}

extension Configuration {
  /// Reads the config from where it was found.
  public static func load(
    _ location: ConfigLocation,
    registry: Registry,
    environment: [String: String],
    defaults: Limits = Limits()
  ) throws(ConfigErrors) -> Configuration {
    switch location {
    case .file(let path):
      try load(path: path, registry: registry, environment: environment, defaults: defaults)
    case .embedded:
      try load(
        text: defaultText,
        file: defaultName,
        registry: registry,
        environment: environment,
        defaults: defaults
      )
    }
  }
}
