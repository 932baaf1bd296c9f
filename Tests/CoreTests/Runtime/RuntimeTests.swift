import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import MagicalaneCore

/// What a change of the config does to what runs, with listeners that only note what is asked of them.
@Suite struct RuntimeTests {
  private let log = ListenerLog()

  private func makeRuntime() -> Runtime {
    Runtime(loops: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "test"))
  }

  private func config(_ frontends: String, transports: String = "[]") throws -> Configuration {
    var registry = Registry()
    registry.register(LineFrontend.self)
    registry.register(NotedTransport.self)
    return try ListenerLog.$current.withValue(log) {
      try Configuration.load(
        text: "frontends: \(frontends)\ntransports: \(transports)",
        file: "test.yaml",
        registry: registry,
        environment: [:]
      )
    }
  }

  /// Builds listeners that write to this test's log.
  private func apply(_ configuration: Configuration, to runtime: Runtime) async throws {
    try await ListenerLog.$current.withValue(log) { try await runtime.apply(configuration) }
  }

  @Test func `frontends are bound and told as bound`() async throws {
    let runtime = makeRuntime()
    try await apply(
      config(
        "[{name: a, type: line, listen: 'noted:///1', transport: far}]",
        transports: "[{name: far, type: noted}]"
      ),
      to: runtime
    )
    #expect(
      await runtime.listening.map(\.description) == ["a: line listens on noted:///1, requests go to far"]
    )
    #expect(log.taken() == ["bind /1"])
  }

  @Test func `what did not change is not touched`() async throws {
    let runtime = makeRuntime()
    let far = "[{name: far, type: noted}]"
    let a = "{name: a, type: line, listen: 'noted:///1', transport: far}"
    try await apply(config("[\(a)]", transports: far), to: runtime)
    _ = log.taken()
    try await apply(
      config("[{name: b, type: line, listen: 'noted:///2', transport: far}, \(a)]", transports: far),
      to: runtime
    )
    #expect(log.taken() == ["bind /2"])
    #expect(await runtime.listening.map(\.name) == ["a", "b"])
  }

  @Test func `a removed frontend stops accepting, and closes once its sessions are over`() async throws {
    let runtime = makeRuntime()
    let far = "[{name: far, type: noted}]"
    try await apply(
      config("[{name: a, type: line, listen: 'noted:///1', transport: far}]", transports: far),
      to: runtime
    )
    _ = log.taken()
    try await apply(config("[]", transports: far), to: runtime)
    await log.waits(for: "close /1")
    #expect(log.taken() == ["stop /1", "close /1"])
  }

  @Test func `where a new address cannot be bound nothing that runs is touched`() async throws {
    let runtime = makeRuntime()
    let far = "[{name: far, type: noted}]"
    let a = "{name: a, type: line, listen: 'noted:///1', transport: far"
    try await apply(config("[\(a)}]", transports: far), to: runtime)
    _ = log.taken()
    let b = "{name: b, type: line, listen: 'noted:///2', transport: far}"
    let c = "{name: c, type: line, listen: 'noted:///busy', transport: far}"
    let next = try config("[\(a), idle_timeout: 1s}, \(b), \(c)]", transports: far)
    let error = await #expect(throws: RuntimeErrors.self) { try await apply(next, to: runtime) }
    #expect(error?.errors.map(\.step) == [.bind])
    #expect(error?.errors.first?.problem.path == ["frontends", "2", "listen"])
    await log.waits(for: "close /2")
    #expect(log.taken() == ["bind /2", "stop /2", "close /2"])
    #expect(await runtime.listening.map(\.name) == ["a"])
  }

  @Test func `frontends that were replaced listen again where a successor cannot`() async throws {
    let runtime = makeRuntime()
    let far = "[{name: far, type: noted}]"
    func frontends(_ idle: String) -> String {
      ["1", "handed", "twice"].map {
        "{name: at-\($0), type: line, listen: 'noted:///\($0)', transport: far, idle_timeout: \(idle)}"
      }.joined(separator: ", ")
    }
    try await apply(config("[\(frontends("1s"))]", transports: far), to: runtime)
    _ = log.taken()
    let next = try config("[\(frontends("2s"))]", transports: far)
    await #expect(throws: RuntimeErrors.self) { try await apply(next, to: runtime) }
    #expect(
      log.taken().filter { !$0.hasPrefix("close") } == [
        "stop /1", "bind /1", "take /handed", "stop /twice", "take /handed", "stop /1", "stop /handed",
        "bind /1",
        "bind /twice",
      ]
    )
    #expect(await runtime.listening.map(\.name) == ["at-1", "at-handed", "at-twice"])
    #expect(await runtime.frontendStatuses.allSatisfy { $0.state == .listening })
  }

  @Test func `a listener that can takes over its predecessor's sockets`() async throws {
    let runtime = makeRuntime()
    let far = "[{name: far, type: noted}]"
    func frontend(_ idle: String) -> String {
      "{name: a, type: line, listen: 'noted:///handed', transport: far, idle_timeout: \(idle)}"
    }
    try await apply(config("[\(frontend("1s"))]", transports: far), to: runtime)
    try await apply(config("[\(frontend("2s"))]", transports: far), to: runtime)
    await log.waits(for: "close /handed")
    #expect(log.taken() == ["bind /handed", "take /handed", "stop /handed", "close /handed"])
  }

  @Test func `every plugin that refuses its options is told`() async throws {
    let runtime = makeRuntime()
    let next = try config(
      "[{name: a, type: line, listen: 'noted:///bad', transport: far}]",
      transports: "[{name: far, type: noted, broken: true}, {name: out, type: noted, broken: true}]"
    )
    let error = await #expect(throws: RuntimeErrors.self) { try await apply(next, to: runtime) }
    #expect(
      error?.errors.map(\.problem.path).prefix(2) == [
        ["transports", "0", "broken"], ["transports", "1", "broken"],
      ]
    )
    #expect(error?.errors.allSatisfy { $0.step == .build } == true)
    #expect(log.taken() == [])
  }

  @Test func `a replaced transport is shut down, one that stays is not`() async throws {
    let runtime = makeRuntime()
    try await apply(config("[]", transports: "[{name: x, type: noted}, {name: y, type: noted}]"), to: runtime)
    try await apply(
      config("[]", transports: "[{name: x, type: noted}, {name: y, type: noted, buffer: 1MiB}]"),
      to: runtime
    )
    await log.waits(for: "shutdown y")
    #expect(log.taken() == ["shutdown y"])
  }

  @Test func `draining stops accepting before it closes`() async throws {
    let runtime = makeRuntime()
    try await apply(
      config(
        "[{name: a, type: line, listen: 'noted:///1', transport: far}]",
        transports: "[{name: far, type: noted}]"
      ),
      to: runtime
    )
    _ = log.taken()
    #expect(await runtime.drain() == 0)
    #expect(log.taken() == ["stop /1", "close /1", "shutdown far"])
    #expect(await runtime.listening.isEmpty)
  }
}
