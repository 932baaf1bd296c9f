import Logging

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Configuration {
  /// Reads a config text and checks everything that can be checked without opening or binding anything.
  ///
  /// A text without content stands for `defaultText`.
  ///
  /// - Parameters:
  ///   - file: what messages call the text; relative paths in it start in the directory of this path.
  ///   - registry: the plugins that `type:` and `listen:` may name.
  ///   - environment: where `${NAME}` is looked up.
  ///   - defaults: what holds where `limits:` says nothing.
  /// - Throws: all problems of the text at once.
  public static func load(
    text: String,
    file: String,
    registry: Registry,
    environment: [String: String],
    defaults: Limits = Limits()
  ) throws(ConfigErrors) -> Configuration {
    let findings = ConfigFindings(file: file)
    var root = ConfigDocument.read(text, environment: environment, into: findings)
    if let read = root, read.isNull {
      root = ConfigDocument.read(defaultText, environment: [:], into: findings)
    }
    guard root != nil else { throw ConfigErrors(findings.problems) }
    return try check(findings, registry, defaults, directory: directory(of: file))
  }

  /// Checks a tree that was read or edited before.
  ///
  /// - Parameter file: what messages call it.
  static func load(
    document: ConfigValue,
    file: String,
    directory: String,
    registry: Registry,
    defaults: Limits
  ) throws(ConfigErrors) -> Configuration {
    let findings = ConfigFindings(file: file)
    findings.root = document
    return try check(findings, registry, defaults, directory: directory)
  }

  private static func check(
    _ findings: ConfigFindings,
    _ registry: Registry,
    _ defaults: Limits,
    directory: String
  ) throws(ConfigErrors) -> Configuration {
    let configuration = ConfigSections(findings, registry, defaults, directory: directory).read()
    findings.reportUnknownKeys()
    guard findings.problems.isEmpty else { throw ConfigErrors(findings.problems) }
    return configuration
  }

  /// Reads a config file as `load(text:file:registry:environment:defaults:)` reads a text.
  ///
  /// - Throws: also where the file cannot be read, in the same form.
  public static func load(
    path: String,
    registry: Registry,
    environment: [String: String],
    defaults: Limits = Limits()
  ) throws(ConfigErrors) -> Configuration {
    let text = try ConfigFile.text(at: path)
    return try load(text: text, file: path, registry: registry, environment: environment, defaults: defaults)
  }

  private static func directory(of file: String) -> String {
    guard let slash = file.lastIndex(of: "/") else { return "." }
    return slash == file.startIndex ? "/" : String(file[..<slash])
  }
}

/// A config file on disk.
enum ConfigFile {
  private static let mostBytes = 4 << 20

  /// The whole file as text, without a byte order mark; fails where it is larger than 4 MiB or not UTF-8.
  static func text(at path: String) throws(ConfigErrors) -> String {
    guard let file = fopen(path, "re") else { throw unreadable(path, String(cString: strerror(errno))) }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= mostBytes {
      let count = fread(&chunk, 1, chunk.count, file)
      guard count > 0 else { break }
      bytes += chunk[..<count]
    }
    guard ferror(file) == 0 else { throw unreadable(path, String(cString: strerror(errno))) }
    guard bytes.count <= mostBytes else { throw unreadable(path, "it is larger than 4 MiB") }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw unreadable(path, "it is not UTF-8 text")
    }
    return text
  }

  private static func unreadable(_ path: String, _ reason: String) -> ConfigErrors {
    ConfigErrors([ConfigProblem(file: path, line: 1, column: 1, message: "cannot be read: \(reason)")])
  }
}
