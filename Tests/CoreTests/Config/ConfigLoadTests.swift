import Foundation
import Logging
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

@Suite struct ConfigLoadTests {
  static let client = """
    # client
    log: {level: info, format: text}            # format: text | json
    admin: {listen: "127.0.0.1:9090"}           # token: "…" needed when neither loopback nor unix:/path
    frontends:
      - name: socks
        type: socks5                            # socks5 | http
        listen: tcp://127.0.0.1:1080            # tcp | tls | quic
        transport: tokyo                        # where its requests go; default: direct
      - name: web
        type: http
        listen: tcp://127.0.0.1:8080
        transport: tokyo
    transports:
      - name: tokyo
        type: quic                              # quic | tls | tcp
        server: proxy.example.com:443
        user: alice
        password: ${ALICE_PASSWORD}             # ${NAME}: from the environment; a missing one is an error
        tls: {server_name: proxy.example.com, ca: ca.pem}   # or pin_sha256: …, or insecure: true
    """

  static let server = """
    # server
    frontends:
      - name: edge-quic
        type: http
        listen: quic://0.0.0.0:443
        tls: {certificate: cert.pem, key: key.pem}
        users: [{name: alice, password: "…"}]
      - name: edge-tls
        type: http
        listen: tls://0.0.0.0:443
        tls: {certificate: cert.pem, key: key.pem}
        users: [{name: alice, password: "…"}]
    """

  @Test func `a client's config loads`() throws {
    let config = try config(Self.client, ["ALICE_PASSWORD": "secret"])
    #expect(config.log == LogSettings())
    #expect(config.admin.listen == "127.0.0.1:9090")
    #expect(config.frontends.map(\.name) == ["socks", "web"])
    #expect(config.frontends.map(\.type) == ["socks5", "http"])
    #expect(config.frontends.map(\.listen.description) == ["tcp://127.0.0.1:1080", "tcp://127.0.0.1:8080"])
    #expect(config.frontends.map(\.transport) == ["tokyo", "tokyo"])
    #expect(config.frontends.allSatisfy { $0.users == nil && !$0.allowsLocalTargets })
    #expect(config.transports.map(\.name) == ["tokyo", "direct"])
    #expect(config.transports.map(\.type) == ["quic", "tcp"])
    #expect(config.transports[0].credentials == Credentials(user: "alice", password: "secret"))
    #expect(config.transports[1].credentials == nil)
  }

  @Test func `a server's config loads`() throws {
    let config = try config(Self.server)
    #expect(config.admin == AdminSettings())
    #expect(config.frontends.map(\.listen.scheme) == ["quic", "tls"])
    #expect(config.frontends.map(\.transport) == ["direct", "direct"])
    #expect(config.frontends.allSatisfy { $0.users == [Credentials(user: "alice", password: "…")] })
    #expect(config.transports.map(\.name) == ["direct"])
  }

  @Test func `the default config is both frontends and the admin API on loopback`() throws {
    let config = try Configuration.load(.embedded, registry: .fakes, environment: [:])
    #expect(config.frontends.map(\.type) == ["socks5", "http"])
    #expect(config.frontends.map(\.listen.description) == ["tcp://127.0.0.1:1080", "tcp://127.0.0.1:8080"])
    #expect(config.frontends.map(\.transport) == ["direct", "direct"])
    #expect(config.transports.map(\.name) == ["direct"])
    #expect(config.admin.listen == "127.0.0.1:9090")
  }

  @Test(arguments: ["", "\n\n", "# nothing here\n", "---\n", "~"])
  func `a file without content is the default config`(text: String) throws {
    let config = try config(text)
    #expect(config.frontends.map(\.name) == ["socks", "web"])
    #expect(config.admin.listen == "127.0.0.1:9090")
  }

  @Test func `sections without content stand for their defaults`() throws {
    let config = try config("log:\nadmin:\nlimits:\nfrontends:\ntransports:\n")
    #expect(config.limits == Limits())
    #expect(config.log == LogSettings())
    #expect(config.admin == AdminSettings())
    #expect(config.frontends.isEmpty)
    #expect(config.transports.map(\.name) == ["direct"])
  }

  @Test func `without a buffer streams size themselves`() throws {
    let config = try config("transports: [{name: c, type: tcp, buffer: 1MiB}, {name: d, type: tcp}]")
    #expect(config.transports.map(\.buffer) == [1 << 20, nil, nil])
    #expect(config.limits.buffer == nil)
  }

  @Test func `JSON is a config too`() throws {
    let config = try config(
      """
      {"frontends": [{"name": "f", "type": "http", "listen": "tcp://127.0.0.1:1", "open": true, "buffer": 65536}],
      \t"limits": {"sessions": 5}}
      """
    )
    #expect(config.frontends.map(\.buffer) == [65536])
    #expect(config.limits.sessions == 5)
  }

  @Test func `limits hold for entries that do not say otherwise`() throws {
    let config = try config(
      """
      limits:
        buffer: 64KiB
        memory: 512MiB
        sessions: 7
        connect_timeout: 500ms
        handshake_timeout: 3s
        idle_timeout: 2h
        drain_timeout: 1m
      frontends:
        - {name: a, type: http, listen: "tcp://127.0.0.1:1"}
        - {name: b, type: http, listen: "tcp://127.0.0.1:2", buffer: 1GiB, handshake_timeout: 1s, idle_timeout: 4m}
      transports:
        - {name: c, type: tcp}
        - {name: d, type: tcp, buffer: 100000, connect_timeout: 9s}
      """
    )
    #expect(config.limits.sessions == 7)
    #expect(config.limits.memory == 512 << 20)
    #expect(config.limits.drainTimeout == .minutes(1))
    #expect(config.frontends.map(\.buffer) == [65536, 1 << 30])
    #expect(config.frontends.map(\.handshakeTimeout) == [.seconds(3), .seconds(1)])
    #expect(config.frontends.map(\.idleTimeout) == [.hours(2), .minutes(4)])
    #expect(config.transports.map(\.buffer) == [65536, 100_000, 65536])
    #expect(config.transports.map(\.connectTimeout) == [.milliseconds(500), .seconds(9), .milliseconds(500)])
  }

  @Test func `names are remembered for the times of the resolver section, zero included`() throws {
    #expect(try config("log: {}").resolver == ResolverSettings())
    let config = try config("resolver: {cache: 2m, cache_failures: 0s}")
    #expect(config.resolver.cache == .minutes(2))
    #expect(config.resolver.cacheFailures == .zero)
  }

  @Test func `a transport named direct takes the place of the one that is always there`() throws {
    let config = try config("transports: [{name: direct, type: tls, server: 'a:1'}]")
    #expect(config.transports.map(\.type) == ["tls"])
  }

  @Test func `without a tcp transport there is no direct`() throws {
    let config = try Configuration.load(
      text: "log: {}",
      file: "m.yaml",
      registry: Registry(),
      environment: [:]
    )
    #expect(config.transports.isEmpty)
  }

  @Test(arguments: [("m.yaml", "."), ("a/b/m.yaml", "a/b"), ("/m.yaml", "/"), ("/etc/x/m.yaml", "/etc/x")])
  func `relative paths start where the file is`(file: String, directory: String) throws {
    let config = try Configuration.load(text: "log: {}", file: file, registry: .fakes, environment: [:])
    #expect(config.directory == directory)
  }

  @Test func `anchors, aliases and merge keys work`() throws {
    let config = try config(
      """
      frontends:
        - &base {name: a, type: http, listen: "tcp://127.0.0.1:1", idle_timeout: &t 7s}
        - {<<: *base, name: b, listen: "tcp://127.0.0.1:2"}
        - {<<: [{idle_timeout: 1s}, *base], name: c, listen: "tcp://127.0.0.1:3"}
      limits: {drain_timeout: *t}
      """
    )
    #expect(config.frontends.map(\.name) == ["a", "b", "c"])
    #expect(config.frontends.map(\.type) == ["http", "http", "http"])
    #expect(config.frontends.map(\.idleTimeout) == [.seconds(7), .seconds(7), .seconds(1)])
    #expect(config.limits.drainTimeout == .seconds(7))
  }

  @Test func `options reach the plugin's constructor as they were written`() throws {
    let config = try config(
      """
      transports:
        - name: t
          type: pipe
          path: 007
          mode: slow
          retries: -3
          ratio: 1.5
          keep_alive: true
          pin_sha256: ab
          every: 90s
          window: 2MiB
          api_token: hush
          hops: ["a:1", "[::1]:2"]
          labels: {camelCase: 1, snake_case: 2}
          inner: {depth: 255, label: x}
      """
    )
    let options = try #require(try config.transports[0].makeTransport(.fake()) as? FakePipe).options
    #expect(options.path == "007")
    #expect(options.mode == .slow)
    #expect(options.retries == -3)
    #expect(options.ratio == 1.5)
    #expect(options.keepAlive == true)
    #expect(options.pinSHA256 == "ab")
    #expect(options.every?.amount == .seconds(90))
    #expect(options.window?.bytes == 2 << 20)
    #expect(options.apiToken?.value == "hush")
    #expect(options.hops?.map(\.description) == ["a:1", "[::1]:2"])
    #expect(options.labels == ["camelCase": 1, "snake_case": 2])
    #expect(options.inner?.depth == 255)
    #expect(config.secrets == [["transports", "0", "api_token"]])
  }

  @Test func `a type that takes two forms takes both`() throws {
    func options(_ keys: String) throws -> FakePipe.Options {
      let config = try config("transports: [{name: t, type: pipe, path: p, \(keys)}]")
      return try #require(try config.transports[0].makeTransport(.fake()) as? FakePipe).options
    }
    #expect(try options("pins: a").pins?.values == ["a"])
    #expect(try options("pins: [a, b]").pins?.values == ["a", "b"])
    #expect(try options("place: a").place?.street == "a")
    #expect(try options("place: {street: a}").place?.street == "a")
  }

  @Test func `every password and token is known as secret`() throws {
    let config = try config(
      """
      admin: {listen: "127.0.0.1:1", token: a}
      frontends:
        - {name: f, type: http, listen: "tcp://127.0.0.1:2", users: [{name: u, password: b}]}
      transports:
        - {name: t, type: tcp, user: u, password: c}
      """
    )
    let expected: Set = [
      ["admin", "token"], ["frontends", "0", "users", "0", "password"], ["transports", "0", "password"],
    ]
    #expect(config.secrets == expected)
  }
}

@Suite struct ConfigFingerprintTests {
  @Test func `two ways to write an entry have one fingerprint`() throws {
    let one = try config(
      "transports: [{name: t, type: pipe, path: 'x', mode: fast, buffer: 1MiB, inner: {depth: 1, label: a}}]"
    )
    let other = try config(
      """
      limits: {buffer: 1024KiB}
      transports:
        - type: pipe
          inner: {label: "a", depth: 1}
          path: ${X}
          connect_timeout: 10000ms
          mode: "fast"
          retries: ~
          name: t
      """,
      ["X": "x"]
    )
    #expect(one.transports[0].fingerprint == other.transports[0].fingerprint)
  }

  @Test(arguments: [
    "name: u, type: pipe, path: x", "name: t, type: tcp", "name: t, type: pipe, path: y",
    "name: t, type: pipe, path: x, buffer: 1MiB", "name: t, type: pipe, path: x, connect_timeout: 1s",
    "name: t, type: pipe, path: x, user: a, password: b",
    "name: t, type: pipe, path: x, user: a, password: c",
    "name: t, type: pipe, path: x, hops: ['a:1']",
  ])
  func `a transport that differs has another fingerprint`(entry: String) throws {
    let plain = try config("transports: [{name: t, type: pipe, path: x, user: a, password: d}]").transports[0]
    let other = try config("transports: [{\(entry)}]").transports[0]
    #expect(plain.fingerprint != other.fingerprint)
  }

  @Test func `an entry whose file was replaced has another fingerprint`() throws {
    let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: file) }
    func fingerprint() throws -> String {
      try config("transports: [{name: t, type: pipe, path: x, file: '\(file.path)'}]").transports[0]
        .fingerprint
    }
    let absent = try fingerprint()
    try Data("old".utf8).write(to: file)
    let old = try fingerprint()
    #expect(try fingerprint() == old)
    try Data("other".utf8).write(to: file, options: .atomic)
    #expect(Set([absent, old, try fingerprint()]).count == 3)
  }

  @Test(arguments: [
    "open: true, idle_timeout: 1s", "allow_local_targets: true", "transport: t", "realm: x", "buffer: 1MiB",
    "handshake_timeout: 1s", "users: [{name: a, password: c}]",
  ])
  func `a frontend that differs has another fingerprint`(keys: String) throws {
    func fingerprint(_ keys: String) throws -> String {
      let entry = "{name: f, type: http, listen: 'tcp://127.0.0.1:1'\(keys)}"
      return try config("frontends: [\(entry)]\ntransports: [{name: t, type: tcp}]").frontends[0].fingerprint
    }
    let plain = try fingerprint("")
    #expect(try fingerprint(", " + keys) != plain)
    #expect(try fingerprint(", open: false, transport: direct, allow_local_targets: false") == plain)
  }
}

extension TransportContext {
  static func fake() -> TransportContext {
    let loop = EmbeddedEventLoop()
    return TransportContext(
      name: "t",
      logger: Logger(label: "test"),
      loops: loop,
      resolver: NameResolver(threads: 1),
      credentials: nil,
      buffer: 65536,
      directory: "."
    )
  }
}

extension ListenContext {
  static func fake(_ address: ListenAddress) -> ListenContext {
    let loop = EmbeddedEventLoop()
    return ListenContext(
      name: "f",
      address: address,
      logger: Logger(label: "test"),
      loops: loop,
      resolver: NameResolver(threads: 1),
      buffer: 65536,
      directory: "."
    )
  }
}
