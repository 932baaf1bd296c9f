import Logging
import NIOCore

/// Reads the sections of a file in the words of `ConfigEntries`, and the plugins' options beside them.
///
/// Every problem goes to `findings`; where there is one, what is returned holds placeholders.
struct ConfigSections {
  let findings: ConfigFindings
  let registry: Registry
  let defaults: Limits
  let root: ConfigValue
  /// Where relative paths start.
  let directory: String

  init(_ findings: ConfigFindings, _ registry: Registry, _ defaults: Limits, directory: String) {
    self.directory = directory
    self.findings = findings
    self.registry = registry
    self.defaults = defaults
    root = findings.root
  }

  func read() -> Configuration {
    guard case .mapping = root.content else {
      findings.reportMismatch("a mapping", root, [])
      return Configuration(
        log: LogSettings(),
        admin: AdminSettings(),
        limits: defaults,
        frontends: [],
        transports: [],
        directory: directory
      )
    }
    findings.expect(["log", "admin", "limits", "resolver", "frontends", "transports"], at: [])
    let limits = readLimits()
    let configuration = Configuration(
      log: readLog(),
      admin: readAdmin(),
      limits: limits,
      resolver: readResolver(),
      frontends: entries("frontends").compactMap { readFrontend($0, limits) },
      transports: (entries("transports") + addedTransports()).compactMap { readTransport($0, limits) },
      directory: directory,
      secrets: findings.secrets,
      document: root
    )
    ConfigRules(findings).check()
    return configuration
  }

  // MARK: Sections

  private func readLog() -> LogSettings {
    var settings = LogSettings()
    guard let entry = section("log", LogEntry.self) else { return settings }
    settings.level = entry.level ?? settings.level
    settings.format = entry.format ?? settings.format
    return settings
  }

  private func readAdmin() -> AdminSettings {
    guard let entry = section("admin", AdminEntry.self) else { return AdminSettings() }
    return AdminSettings(listen: entry.listen, token: entry.token?.value)
  }

  private func readLimits() -> Limits {
    var limits = defaults
    guard let entry = section("limits", LimitsEntry.self) else { return limits }
    limits.buffer = entry.buffer?.bytes ?? limits.buffer
    limits.memory = entry.memory?.bytes ?? limits.memory
    limits.sessions = entry.sessions?.count ?? limits.sessions
    limits.connectTimeout = entry.connectTimeout?.amount ?? limits.connectTimeout
    limits.handshakeTimeout = entry.handshakeTimeout?.amount ?? limits.handshakeTimeout
    limits.idleTimeout = entry.idleTimeout?.amount ?? limits.idleTimeout
    limits.drainTimeout = entry.drainTimeout?.amount ?? limits.drainTimeout
    return limits
  }

  private func readResolver() -> ResolverSettings {
    var settings = ResolverSettings()
    guard let entry = section("resolver", ResolverEntry.self) else { return settings }
    settings.cache = entry.cache?.amount ?? settings.cache
    settings.cacheFailures = entry.cacheFailures?.amount ?? settings.cacheFailures
    return settings
  }

  private func section<T: Decodable>(_ key: String, _ type: T.Type) -> T? {
    guard let value = root[key], !value.isNull else { return nil }
    return findings.read(type, value, [key])
  }

  // MARK: Entries

  /// An entry of a list and where it stands.
  private struct Entry {
    var path: [String]
    var value: ConfigValue
  }

  private func entries(_ section: String) -> [Entry] {
    guard let list = root[section], !list.isNull else { return [] }
    guard case .sequence(let items) = list.content else {
      findings.reportMismatch("a list", list, [section])
      return []
    }
    return items.enumerated().map { Entry(path: [section, "\($0)"], value: $1) }
  }

  /// The transport `direct` where the file has none of that name, as the file could have it.
  private func addedTransports() -> [Entry] {
    let names = (root["transports"]?.items ?? []).compactMap { $0["name"]?.scalar?.text }
    guard !names.contains("direct"), registry.transports["tcp"] != nil else { return [] }
    let members = [("name", "direct"), ("type", "tcp")].map { key, text in
      let scalar = ConfigValue.Scalar(text: text, written: text, isPlain: true)
      return ConfigValue.Member(
        key: key,
        position: .start,
        value: ConfigValue(content: .scalar(scalar), position: .start)
      )
    }
    return [
      Entry(path: ["transports", "direct"], value: ConfigValue(content: .mapping(members), position: .start))
    ]
  }

  private func origin(of entry: Entry) -> EntryOrigin {
    EntryOrigin(
      file: findings.file,
      label: findings.name(of: entry.path),
      path: entry.path,
      value: entry.value
    )
  }

  // MARK: Frontends

  private func readFrontend(_ entry: Entry, _ limits: Limits) -> FrontendSettings? {
    guard let keys = findings.read(FrontendEntry.self, entry.value, entry.path) else { return nil }
    let makeFrontend = plugin(keys.type, among: registry.frontends, entry).flatMap {
      frontendMaker($0, entry)
    }
    let makeListener = listeningTransport(keys.listen, entry).flatMap { listenerMaker($0, entry) }
    guard let makeFrontend, let makeListener else { return nil }
    var settings = FrontendSettings(
      name: keys.name.text,
      type: keys.type,
      listen: keys.listen,
      transport: keys.transport ?? "direct",
      users: keys.users?.map { Credentials(user: $0.name.text, password: $0.password.value) },
      allowsLocalTargets: keys.allowLocalTargets ?? false,
      buffer: keys.buffer?.bytes ?? limits.buffer,
      handshakeTimeout: keys.handshakeTimeout?.amount ?? limits.handshakeTimeout,
      idleTimeout: keys.idleTimeout?.amount ?? limits.idleTimeout,
      makeFrontend: makeFrontend,
      makeListener: makeListener,
      fingerprint: "",
      origin: origin(of: entry)
    )
    settings.fingerprint = fingerprint(
      settings.name,
      settings.type,
      settings.listen,
      settings.transport,
      entry.value["users"]?.canonicalText ?? "-",
      settings.allowsLocalTargets,
      settings.buffer.map { "\($0)" } ?? "-",
      settings.handshakeTimeout.nanoseconds,
      settings.idleTimeout.nanoseconds,
      rest: entry,
      without: FrontendEntry.keys
    )
    return settings
  }

  private func frontendMaker<F: Frontend>(
    _ type: F.Type,
    _ entry: Entry
  ) -> (@Sendable (FrontendContext) throws -> any Frontend)? {
    guard let options = findings.read(F.Options.self, entry.value, entry.path) else { return nil }
    return { context in try F(options: options, context: context) }
  }

  private func listenerMaker<T: Transport>(
    _ type: T.Type,
    _ entry: Entry
  ) -> (@Sendable (ListenContext) throws -> any TransportListener)? {
    guard T.canListen else {
      findings.report(value: entry.path + ["listen"], "transport type '\(T.type)' can connect but not listen")
      findings.abandon(entry.path)
      return nil
    }
    guard let options = findings.read(T.Listener.Options.self, entry.value, entry.path) else { return nil }
    return { context in try T.Listener(options: options, context: context) }
  }

  private func listeningTransport(_ address: ListenAddress, _ entry: Entry) -> (any Transport.Type)? {
    let path = entry.path + ["listen"]
    guard let value = entry.value["listen"], !value.isBroken, !findings.hasProblem(at: path) else {
      findings.abandon(entry.path)
      return nil
    }
    if let type = registry.transports[address.scheme] { return type }
    let written = value.scalar?.written.firstRange(of: "://").flatMap { range in
      value.scalar.map { String($0.written[..<range.lowerBound]) }
    }
    let listening = registry.transports.filter { $0.value.canListen }.map(\.key)
    findings.report(value: path, expectation(oneOf: listening, found: value, word: written))
    findings.abandon(entry.path)
    return nil
  }

  // MARK: Transports

  private func readTransport(_ entry: Entry, _ limits: Limits) -> TransportSettings? {
    guard let keys = findings.read(TransportEntry.self, entry.value, entry.path),
      let type = plugin(keys.type, among: registry.transports, entry),
      let makeTransport = transportMaker(type, entry)
    else { return nil }
    let credentials = keys.user.flatMap { user in
      keys.password.map { Credentials(user: user.text, password: $0.value) }
    }
    var settings = TransportSettings(
      name: keys.name.text,
      type: keys.type,
      credentials: credentials,
      buffer: keys.buffer?.bytes ?? limits.buffer,
      connectTimeout: keys.connectTimeout?.amount ?? limits.connectTimeout,
      makeTransport: makeTransport,
      fingerprint: "",
      origin: origin(of: entry)
    )
    settings.fingerprint = fingerprint(
      settings.name,
      settings.type,
      credentials?.user.debugDescription ?? "-",
      credentials?.password.debugDescription ?? "-",
      settings.buffer.map { "\($0)" } ?? "-",
      settings.connectTimeout.nanoseconds,
      rest: entry,
      without: TransportEntry.keys
    )
    return settings
  }

  private func transportMaker<T: Transport>(
    _ type: T.Type,
    _ entry: Entry
  ) -> (@Sendable (TransportContext) throws -> any Transport)? {
    guard let options = findings.read(T.Options.self, entry.value, entry.path) else { return nil }
    return { context in try T(options: options, context: context) }
  }

  // MARK: Both

  /// The plugin that `type:` names. Without it nobody knows the entry's keys, so that none is called unknown.
  private func plugin<Plugin>(_ type: String, among plugins: [String: Plugin], _ entry: Entry) -> Plugin? {
    if let plugin = plugins[type] { return plugin }
    if let value = entry.value["type"], !value.isBroken {
      findings.report(value: entry.path + ["type"], expectation(oneOf: Array(plugins.keys), found: value))
    }
    findings.abandon(entry.path)
    return nil
  }

  /// The common keys as they take effect, the others as they stand, and which files they name at this time.
  private func fingerprint(_ parts: Any..., rest entry: Entry, without keys: Set<String>) -> String {
    let others = ConfigValue(
      content: .mapping(entry.value.members.filter { !keys.contains($0.key) }),
      position: entry.value.position
    )
    let files = findings.files.filter { $0.key.starts(with: entry.path) }.map(\.value.text).sorted()
    let stamps = files.map { FileStamp(FilePath($0).resolved(in: directory)).text }
    return (parts.map { "\($0)" } + [others.canonicalText] + stamps).joined(separator: " ")
  }
}

extension Transport {
  fileprivate static var canListen: Bool { Listener.self != NoListener.self }
}
