import Foundation
import Logging
import NIOPosix
import Testing

@testable import MagicalaneCore

/// The one road by which the config changes, with listeners that only note what is asked of them.
@Suite struct LiveConfigTests {
  private let log = ListenerLog()

  private static let first = """
    # what runs at first
    frontends:
      - {name: a, type: line, listen: "noted:///1", transport: far, users: [{name: ann, password: ann's}]}
    transports:
      - {name: far, type: noted, key: "${KEY}", user: bob, password: bob's}
    """

  private func start(_ text: String = first) async throws -> LiveConfig {
    try await start(.text(text, name: "test.yaml", directory: "."))
  }

  private func start(_ place: ConfigSource.Place) async throws -> LiveConfig {
    var registry = Registry()
    registry.register(LineFrontend.self)
    registry.register(NotedTransport.self)
    registry.register(FakeTCP.self)
    let source = ConfigSource(place, registry: registry, environment: ["KEY": "k3y", "TWO": "noted:///2"])
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let runtime = Runtime(loops: MultiThreadedEventLoopGroup.singleton, logger: logger)
    let live = LiveConfig(runtime: runtime, source: source, logger: logger)
    try await ListenerLog.$current.withValue(log) {
      try await live.start(source.load())
    }
    return live
  }

  @discardableResult
  private func change(
    _ live: LiveConfig,
    _ edit: ConfigEdit,
    _ precondition: ConfigPrecondition = .exists,
    dryRun: Bool = false,
    persist: Bool = false
  ) async throws -> ConfigChange {
    try await ListenerLog.$current.withValue(log) {
      try await live.change(
        edit,
        ConfigChangeOptions(precondition: precondition, isDryRun: dryRun, persists: persist)
      )
    }
  }

  private func refusal(
    _ live: LiveConfig,
    _ edit: ConfigEdit,
    _ precondition: ConfigPrecondition = .exists,
    persist: Bool = false
  ) async -> ConfigChangeError? {
    do {
      try await change(live, edit, precondition, persist: persist)
      return nil
    } catch {
      return error as? ConfigChangeError
    }
  }

  private func faults(_ error: ConfigChangeError?) -> (ConfigChangeError.Step, [ConfigFault])? {
    if case .invalid(let step, let faults)? = error { (step, faults) } else { nil }
  }

  private func listening(_ live: LiveConfig) async -> [String] {
    await live.runtime.listening.map { "\($0.name) \($0.address.location)" }
  }

  // MARK: What is shown

  @Test func `secrets are not shown, references to the environment are, as they are written`() async throws {
    let live = try await start()
    let yaml = await live.shown.yaml
    #expect(!yaml.contains("ann's") && !yaml.contains("bob's") && !yaml.contains("k3y"))
    #expect(yaml.contains("${KEY}") && yaml.contains("<redacted>"))
    let json = try String(decoding: JSONEncoder().encode(await live.shown.node), as: UTF8.self)
    #expect(!json.contains("ann's") && !json.contains("bob's") && !json.contains("k3y"))
  }

  @Test func `what is shown can be put back and changes nothing`() async throws {
    let live = try await start()
    let shown = await live.shown
    let json = try String(decoding: JSONEncoder().encode(shown.node), as: UTF8.self)
    _ = log.taken()
    for text in [ConfigText(shown.yaml, .yaml), ConfigText(json, .json)] {
      let change = try await change(live, .replace(text), .matches([live.tag]))
      #expect(change.difference.isEmpty)
    }
    #expect(log.taken() == [])
    #expect(await live.current?.configuration.frontends[0].users?[0].password == "ann's")
    #expect(await live.current?.configuration.transports[0].credentials?.password == "bob's")
  }

  // MARK: Secrets

  @Test func `a secret is kept where its entry has the same name, wherever it stands`() async throws {
    let live = try await start()
    let text = """
      frontends:
        - {name: new, type: line, listen: "noted:///2", users: [{name: zoe, password: zoe's}]}
        - name: a
          type: line
          listen: noted:///1
          users: [{name: eve, password: eve's}, {name: ann, password: <redacted>}]
      """
    try await change(live, .replace(ConfigText(text, .yaml)))
    let users = await live.current?.configuration.frontends[1].users
    #expect(users?.map(\.password) == ["eve's", "ann's"])
  }

  @Test func `a mark that has no secret before it to keep is refused`() async throws {
    let live = try await start()
    let text =
      "frontends: [{name: b, type: line, listen: 'noted:///1', users: [{name: ann, password: <redacted>}]}]"
    let error = await refusal(live, .replace(ConfigText(text, .yaml)))
    #expect(faults(error)?.1.map(\.path) == [["frontends", "0", "users", "0", "password"]])
    #expect(await listening(live) == ["a /1"])
  }

  // MARK: Preconditions

  @Test func `who changes what is there must say which version was seen`() async throws {
    let live = try await start()
    let entry = ConfigText(#"{"type":"line","listen":"noted:///1"}"#, .json)
    for edit in [
      ConfigEdit.replace(ConfigText("{}", .yaml)), .put(.frontends, name: "a", entry),
      .patch(.frontends, name: "a", entry), .delete(.frontends, name: "a"),
    ] {
      guard case .preconditionRequired? = await refusal(live, edit, .none) else {
        return #expect(Bool(false), "\(edit)")
      }
      guard case .preconditionFailed? = await refusal(live, edit, .matches(["other"])) else {
        return #expect(Bool(false), "\(edit)")
      }
    }
  }

  @Test func `of two writers who saw the same version one wins`() async throws {
    let live = try await start()
    let tag = await live.tag
    await withTaskGroup(of: Bool.self) { group in
      for name in ["x", "y"] {
        group.addTask {
          let text = "frontends: [{name: \(name), type: line, listen: 'noted:///\(name)'}]"
          return await refusal(live, .replace(ConfigText(text, .yaml)), .matches([tag])) == nil
        }
      }
      #expect(await group.reduce(0) { $0 + ($1 ? 1 : 0) } == 1)
    }
  }

  @Test func `an entry's tag changes with what the entry says, secrets included, and with nothing else`()
    async throws
  {
    let live = try await start()
    let before = await live.shown("a", in: .frontends)?.tag
    try await change(
      live,
      .put(.frontends, name: "b", ConfigText("{type: line, listen: noted:///2}", .yaml)),
      .none
    )
    #expect(await live.shown("a", in: .frontends)?.tag == before)
    let patch = ConfigText(#"{"users": [{"name": "ann", "password": "another"}]}"#, .json)
    try await change(live, .patch(.frontends, name: "a", patch))
    #expect(await live.shown("a", in: .frontends)?.tag != before)
  }

  // MARK: Entries

  @Test func `an entry is put, patched and deleted, and what did not change is not touched`() async throws {
    let live = try await start()
    _ = log.taken()
    let entry = ConfigText(#"{"type":"line","listen":"${TWO}","status":{"sessions":7}}"#, .json)
    let put = try await change(live, .put(.frontends, name: "b", entry), .absent)
    #expect(put.isNewEntry && put.difference.frontends.added == ["b"])
    #expect(await listening(live) == ["a /1", "b /2"])

    let patch = ConfigText(#"{"listen":"noted:///3","transport":"far"}"#, .json)
    let patched = try await change(live, .patch(.frontends, name: "b", patch))
    #expect(patched.difference.frontends.changed == ["b"])
    let undo = ConfigText(#"{"transport":null}"#, .json)
    try await change(live, .patch(.frontends, name: "b", undo))
    #expect(await live.shown("b", in: .frontends)?.node["transport"] == nil)

    try await change(live, .delete(.frontends, name: "b"))
    #expect(await listening(live) == ["a /1"])
    #expect(log.taken().allSatisfy { !$0.hasSuffix("/1") })
  }

  @Test func `an entry keeps the name by which it is called`() async throws {
    let live = try await start()
    let entry = ConfigText("{name: c, type: line, listen: noted:///2}", .yaml)
    let error = await refusal(live, .put(.frontends, name: "b", entry), .none)
    #expect(faults(error)?.1.first?.bodyPath == ["name"])
  }

  @Test func `a fault in an entry is told in its own text and in the whole config`() async throws {
    let live = try await start()
    let entry = ConfigText("type: line\nlisten: noted:///2\nidle_timeout: soon", .yaml)
    let fault = faults(await refusal(live, .put(.frontends, name: "b", entry), .none))?.1.first
    #expect(fault?.bodyPath == ["idle_timeout"])
    #expect(fault?.path == ["frontends", "1", "idle_timeout"])
    #expect(fault?.line == 3 && fault?.column == 15)
  }

  @Test func `a transport that somebody uses stays`() async throws {
    let live = try await start()
    let fault = faults(await refusal(live, .delete(.transports, name: "far")))?.1.first
    #expect(fault?.path == ["frontends", "0", "transport"])
    #expect(fault?.bodyPath == nil)
  }

  // MARK: All or nothing

  @Test func `a refused change leaves everything as it was, and says how far it came`() async throws {
    let live = try await start()
    _ = log.taken()
    let texts: [(String, ConfigChangeError.Step)] = [
      ("frontends: [", .read),
      ("frontends: [{name: a}]", .validate),
      ("transports: [{name: far, type: noted, broken: true}]", .build),
      ("frontends: [{name: a, type: line, listen: 'noted:///busy'}]", .bind),
    ]
    let tag = await live.tag
    for (text, step) in texts {
      #expect(faults(await refusal(live, .replace(ConfigText(text, .yaml))))?.0 == step)
    }
    #expect(await live.tag == tag)
    #expect(await listening(live) == ["a /1"])
    #expect(log.taken() == [])
  }

  @Test func `a follower that cannot is a reason to change nothing`() async throws {
    let live = try await start()
    await live.add(Refuser())
    let error = await refusal(live, .replace(ConfigText("admin: {listen: '127.0.0.1:1'}", .yaml)))
    #expect(faults(error)?.1.map(\.path) == [["admin", "listen"]])
    #expect(await listening(live) == ["a /1"])
  }

  private struct Refuser: ConfigFollower {
    func prepare(
      _ configuration: Configuration,
      inPlaceOf current: Configuration?
    ) async throws -> PreparedChange {
      throw PluginError("taken", at: ["admin", "listen"])
    }
  }

  @Test func `a dry run says what would change, and changes nothing`() async throws {
    let live = try await start()
    _ = log.taken()
    let text = ConfigText(
      "frontends: [{name: b, type: line, listen: 'noted:///2'}]\nlimits: {sessions: 5}",
      .yaml
    )
    let change = try await change(live, .replace(text), dryRun: true)
    #expect(change.difference.frontends.added == ["b"])
    #expect(change.difference.frontends.removed == ["a"])
    #expect(change.difference.sections == ["limits"])
    #expect(await listening(live) == ["a /1"])
    #expect(await live.current?.generation == 1)
    #expect(log.taken() == [])
  }

  // MARK: Back

  @Test func `rollback goes back one config at a time, secrets included`() async throws {
    let live = try await start()
    for name in ["b", "c"] {
      let entry = ConfigText("{type: line, listen: 'noted:///\(name)'}", .yaml)
      try await change(live, .put(.frontends, name: name, entry), .none)
    }
    try await change(live, .rollback, .none)
    #expect(await listening(live) == ["a /1", "b /b"])
    try await change(live, .rollback, .none)
    #expect(await listening(live) == ["a /1"])
    #expect(await live.current?.configuration.frontends[0].users?[0].password == "ann's")
    #expect(await live.current?.generation == 5)
    guard case .nothingToRollBack? = await refusal(live, .rollback, .none) else {
      return #expect(Bool(false), "went back behind the first config")
    }
  }

  // MARK: The file

  @Test func `persist writes the text that was sent, and keeps the file's mode`() async throws {
    let file = try TemporaryConfig(Self.first, mode: 0o640)
    let live = try await start(.location(.file(file.path)))
    let text = "# mine\nfrontends: [{name: b, type: line, listen: 'noted:///2'}]\n"
    let change = try await change(live, .replace(ConfigText(text, .yaml)), persist: true)
    #expect(change.persistedTo == ConfigReplacement.resolved(file.path))
    #expect(try file.text == text)
    #expect(try file.mode == 0o640)
    #expect(try FileManager.default.contentsOfDirectory(atPath: file.directory).count == 1)
  }

  @Test func `persist of an entry writes the whole config with its secrets and references`() async throws {
    let file = try TemporaryConfig(Self.first)
    let live = try await start(.location(.file(file.path)))
    let entry = ConfigText("{type: line, listen: noted:///2}", .yaml)
    try await change(live, .put(.frontends, name: "b", entry), .none, persist: true)
    let text = try file.text
    #expect(text.contains("ann's") && text.contains("${KEY}") && !text.contains("<redacted>"))
    try await change(live, .reload, .none)
    #expect(await listening(live) == ["a /1", "b /2"])
  }

  @Test func `persist does not write over what somebody else wrote`() async throws {
    let file = try TemporaryConfig(Self.first)
    let live = try await start(.location(.file(file.path)))
    try file.write("frontends: []\n")
    guard
      case .cannotPersist? = await refusal(live, .replace(ConfigText("{}", .yaml)), persist: true)
    else { return #expect(Bool(false), "the file was written over") }
    #expect(try file.text == "frontends: []\n")
    try await change(live, .reload, .none)
    try await change(live, .replace(ConfigText("log: {level: error}", .yaml)), persist: true)
    #expect(try file.text == "log: {level: error}")
  }

  @Test func `what was refused is not written`() async throws {
    let file = try TemporaryConfig(Self.first)
    let live = try await start(.location(.file(file.path)))
    let text = "frontends: [{name: a, type: line, listen: 'noted:///busy'}]"
    #expect(await refusal(live, .replace(ConfigText(text, .yaml)), persist: true) != nil)
    #expect(try file.text == Self.first)
    #expect(try FileManager.default.contentsOfDirectory(atPath: file.directory).count == 1)
  }
}

/// A config file in a directory of its own, gone with the value.
private final class TemporaryConfig {
  let directory: String
  var path: String { "\(directory)/config.yaml" }

  init(_ text: String, mode: Int = 0o600) throws {
    directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try write(text)
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func write(_ text: String) throws { try Data(text.utf8).write(to: URL(filePath: path)) }

  var text: String { get throws { try String(contentsOfFile: path, encoding: .utf8) } }

  var mode: Int? {
    get throws { try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int }
  }
}
