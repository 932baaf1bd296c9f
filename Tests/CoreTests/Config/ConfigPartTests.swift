import Foundation
import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct ConfigValueTests {
  @Test(arguments: [
    ("500ms", TimeAmount.milliseconds(500)), ("30s", .seconds(30)), ("5m", .minutes(5)), ("2h", .hours(2)),
    ("0s", .zero), ("2 s", .seconds(2)),
  ])
  func `durations have a unit`(text: String, amount: TimeAmount) {
    #expect(ConfigDuration(configText: text)?.amount == amount)
  }

  @Test(arguments: [
    "", "5", "s", "-5s", "1.5s", "5 minutes", "1m30s", "5S", "9999999999h", "99999999999999999999s", "٣s",
  ])
  func `anything else is no duration`(text: String) {
    #expect(ConfigDuration(configText: text) == nil)
  }

  @Test(arguments: [
    ("0", 0), ("1234", 1234), ("7B", 7), ("64KiB", 65536), ("4MiB", 4 << 20), ("1GiB", 1 << 30),
    ("5KB", 5000),
    ("5MB", 5_000_000), ("5GB", 5_000_000_000),
  ])
  func `sizes are bytes or have a unit`(text: String, bytes: Int) {
    #expect(ByteSize(configText: text)?.bytes == bytes)
  }

  @Test(arguments: ["", "-1", "1.5MiB", "64kib", "64K", "9999999999GiB", "KiB"])
  func `anything else is no size`(text: String) {
    #expect(ByteSize(configText: text) == nil)
  }

  @Test(arguments: [
    ("serverName", "server_name"), ("pinSHA256", "pin_sha256"), ("server_name", "server_name"), ("ca", "ca"),
    ("httpURLPath", "http_url_path"), ("URL", "url"), ("Name", "name"),
  ])
  func `keys are in snake case`(property: String, key: String) {
    #expect(property.snakeCased == key)
  }

  @Test(arguments: [
    ("tokio", "tokyo"), ("trasport", "transport"), ("nmae", "name"), ("TYPE", "type"), ("xyz", nil),
    ("", nil),
    ("q", nil),
  ])
  func `the nearest name is one that can be meant`(word: String, name: String?) {
    #expect(word.nearest(among: ["tokyo", "transport", "name", "type", "tls"]) == name)
  }
}

@Suite struct ConfigLocationTests {
  private func found(_ environment: [String: String], _ files: String...) -> ConfigLocation {
    ConfigLocation.find(environment: environment, exists: files.contains)
  }

  @Test func `the file that was asked for is taken whether or not it is there`() {
    #expect(ConfigLocation.find(requested: "x", environment: [:]) { _ in false } == .file("x"))
  }

  @Test func `the working directory comes before the user's, and that before the system's`() {
    let environment = ["XDG_CONFIG_HOME": "/x", "HOME": "/h"]
    let (here, user, system) = (
      "./magicalane.yaml", "/x/magicalane/config.yaml", "/etc/magicalane/config.yaml"
    )
    #expect(found(environment, system, user, here) == .file(here))
    #expect(found(environment, system, user) == .file(user))
    #expect(found(environment, system) == .file(system))
    #expect(found(environment) == .embedded)
  }

  @Test(arguments: [
    ["HOME": "/h"], ["HOME": "/h", "XDG_CONFIG_HOME": ""], ["HOME": "/h", "XDG_CONFIG_HOME": "rel"],
  ])
  func `without XDG_CONFIG_HOME the user's directory is .config`(environment: [String: String]) {
    let file = "/h/.config/magicalane/config.yaml"
    #expect(found(environment, file) == .file(file))
  }

  @Test func `without a home only two places are searched`() {
    #expect(ConfigLocation.searchPath([:]) == ["./magicalane.yaml", "/etc/magicalane/config.yaml"])
  }
}

@Suite struct ConfigFileTests {
  private func loading(_ path: String) -> [String] {
    do {
      _ = try Configuration.load(path: path, registry: .fakes, environment: [:])
      return []
    } catch {
      return error.problems.map(\.description)
    }
  }

  private func withFile(_ bytes: [UInt8], _ body: (String) throws -> Void) throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).yaml").path
    try Data(bytes).write(to: URL(filePath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  @Test func `a file is read, with or without a byte order mark`() throws {
    for mark in [[], [0xEF, 0xBB, 0xBF]] as [[UInt8]] {
      try withFile(mark + Array("log: {x: 1}\r\n".utf8)) { path in
        #expect(loading(path) == ["\(path):1:7: unknown key 'x' in log; known keys: format, level"])
      }
    }
  }

  @Test func `a file that cannot be read is an error in the same form`() throws {
    #expect(loading("/nowhere/m.yaml") == ["/nowhere/m.yaml:1:1: cannot be read: No such file or directory"])
    #expect(loading("/") == ["/:1:1: cannot be read: Is a directory"])
    #expect(loading("/dev/zero") == ["/dev/zero:1:1: cannot be read: it is larger than 4 MiB"])
    try withFile([0x61, 0xFF]) { path in
      #expect(loading(path) == ["\(path):1:1: cannot be read: it is not UTF-8 text"])
    }
  }
}

@Suite struct PluginProblemTests {
  @Test func `what a listener finds wrong points at the key`() throws {
    let frontend = try config(
      """
      frontends:
        - name: edge
          type: http
          listen: tls://127.0.0.1:1
          tls:
            certificate: missing.pem
            key: key.pem
      """
    ).frontends[0]
    let error = #expect(throws: PluginError.self) { try frontend.makeListener(.fake(frontend.listen)) }
    let problem = frontend.problem(for: try #require(error))
    #expect("\(problem)" == "m.yaml:6:7: 'tls.certificate' in frontend 'edge': cannot read missing.pem")
    #expect(problem.path == ["frontends", "0", "tls", "certificate"])
  }

  @Test func `what a transport finds wrong points at the key`() throws {
    let transport = try config("transports: [{name: t, type: quic, server: 'a:1', tls: {ca: missing.pem}}]")
      .transports[0]
    let error = #expect(throws: PluginError.self) { try transport.makeTransport(.fake()) }
    #expect(
      "\(transport.problem(for: try #require(error)))"
        == "m.yaml:1:57: 'tls.ca' in transport 't': cannot read missing.pem"
    )
  }

  @Test func `a key that is not written points at the nearest that is, and an unknown error at the entry`()
    throws
  {
    let transport = try config("transports: [{name: t, type: tls, tls: {ca: a}, server: 'a:1'}]").transports[
      0
    ]
    #expect(
      "\(transport.problem(for: PluginError("no good", at: ["tls", "key"])))"
        == "m.yaml:1:35: 'tls.key' in transport 't': no good"
    )
    #expect(
      "\(transport.problem(for: OpenError(.failed, "no luck")))" == "m.yaml:1:14: transport 't': no luck"
    )
  }
}
