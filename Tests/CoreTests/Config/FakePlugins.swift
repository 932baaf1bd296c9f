import Logging
import MagicalaneCore
import NIOCore

/// Plugins with options as real ones have them, which build and carry nothing.

struct FakeTCP: Transport {
  struct Options: Decodable {
    var server: Target?
  }
  typealias Listener = FakePlainListener
  static let type = "tcp"
  var options: Options

  init(options: Options, context: TransportContext) { self.options = options }
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    refuse(loop)
  }
}

struct FakeTLS: Transport {
  typealias Options = TunnelOptions
  typealias Listener = FakeTLSListener
  static let type = "tls"

  init(options: Options, context: TransportContext) throws { try options.check() }
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    refuse(loop)
  }
}

struct FakeQUIC: Transport {
  typealias Options = TunnelOptions
  typealias Listener = FakeTLSListener
  static let type = "quic"

  init(options: Options, context: TransportContext) throws { try options.check() }
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    refuse(loop)
  }
}

/// Connects only, and holds a value of each kind that the decoder knows.
struct FakePipe: Transport {
  struct Options: Decodable, Sendable {
    enum Mode: String, Decodable, CaseIterable { case fast, slow }
    struct Inner: Decodable {
      var depth: UInt8
      var label: String
    }
    var path: String
    var file: FilePath?
    var mode: Mode?
    var retries: Int?
    var ratio: Double?
    var keepAlive: Bool?
    var pinSHA256: String?
    var every: ConfigDuration?
    var window: ByteSize?
    var apiToken: Secret?
    var hops: [Target]?
    var labels: [String: Int]?
    var inner: Inner?
    var color: Color?
    var pair: Pair?
    var pins: OneOrMore?
    var place: Place?
  }
  /// Tries one form and then another.
  struct OneOrMore: Decodable {
    var values: [String]

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      do {
        values = [try container.decode(String.self)]
      } catch DecodingError.typeMismatch {
        values = try container.decode([String].self)
      }
    }
  }
  /// Asks for one container and then for another.
  struct Place: Decodable {
    var street: String

    private enum Keys: CodingKey { case street }

    init(from decoder: any Decoder) throws {
      if let container = try? decoder.container(keyedBy: Keys.self) {
        street = try container.decode(String.self, forKey: .street)
      } else {
        street = try decoder.singleValueContainer().decode(String.self)
      }
    }
  }
  /// Lists no cases.
  enum Color: String, Decodable { case red }
  /// Checks itself.
  struct Pair: Decodable {
    var low: Int
    var high: Int

    private enum Keys: CodingKey, CaseIterable { case low, high, step }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Keys.self)
      low = try container.decode(Int.self, forKey: .low)
      high = try container.decode(Int.self, forKey: .high)
      guard low < high else { throw PluginError("expected a value above 'low'", at: ["high"]) }
    }
  }
  static let type = "pipe"
  var options: Options

  init(options: Options, context: TransportContext) { self.options = options }
  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    refuse(loop)
  }
}

struct TunnelOptions: Decodable, Sendable {
  enum Congestion: String, Decodable, CaseIterable { case cubic, bbr, bbr2, reno }
  struct TLS: Decodable {
    var serverName: String?
    var ca: String?
    var pinSHA256: String?
    var insecure: Bool?
  }
  var server: Target
  var tls: TLS?
  var congestion: Congestion?

  func check() throws {
    if tls?.ca == "missing.pem" { throw PluginError("cannot read missing.pem", at: ["tls", "ca"]) }
  }
}

struct FakePlainListener: TransportListener {
  init(options: NoOptions, context: ListenContext) {}
  func bind(accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>) async throws -> ListenAddress
  {
    throw PluginError("a fake")
  }
  func stopAccepting() async {}
  func close() async {}
}

struct FakeTLSListener: TransportListener {
  struct Options: Decodable {
    struct TLS: Decodable {
      var certificate: String
      var key: String
    }
    var tls: TLS
  }

  init(options: Options, context: ListenContext) throws {
    if options.tls.certificate == "missing.pem" {
      throw PluginError("cannot read missing.pem", at: ["tls", "certificate"])
    }
  }
  func bind(accept: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>) async throws -> ListenAddress
  {
    throw PluginError("a fake")
  }
  func stopAccepting() async {}
  func close() async {}
}

struct FakeSOCKS: Frontend {
  static let type = "socks5"
  init(options: NoOptions, context: FrontendContext) {}
  func makeHandshake() -> FakeHandshake { FakeHandshake() }
}

struct FakeHTTP: Frontend {
  struct Options: Decodable {
    var realm: String?
  }
  static let type = "http"
  init(options: Options, context: FrontendContext) throws {
    if options.realm == "" { throw PluginError("expected text that is not empty", at: ["realm"]) }
  }
  func makeHandshake() -> FakeHandshake { FakeHandshake() }
}

struct FakeHandshake: FrontendHandshake {
  func receive(_ bytes: inout ByteBuffer) -> HandshakeStep { .needMore }
  func accepted() -> ByteBuffer { ByteBuffer() }
  func refused(_ error: OpenError) -> ByteBuffer { ByteBuffer() }
}

private func refuse(_ loop: any EventLoop) -> EventLoopFuture<any Channel> {
  loop.makeFailedFuture(OpenError(.failed, "a fake"))
}

extension Registry {
  static var fakes: Registry {
    var registry = Registry()
    registry.register(FakeTCP.self)
    registry.register(FakeTLS.self)
    registry.register(FakeQUIC.self)
    registry.register(FakePipe.self)
    registry.register(FakeSOCKS.self)
    registry.register(FakeHTTP.self)
    return registry
  }
}

/// The config in a text that must be right.
func config(_ text: String, _ environment: [String: String] = [:]) throws -> Configuration {
  try Configuration.load(text: text, file: "m.yaml", registry: .fakes, environment: environment)
}

/// All messages for a text, in order; none for a text that is right.
func messages(_ text: String, _ environment: [String: String] = [:]) -> [String] {
  do {
    _ = try Configuration.load(text: text, file: "m.yaml", registry: .fakes, environment: environment)
    return []
  } catch {
    return error.problems.map(\.description)
  }
}

/// As `messages`, for keys of one right frontend called `f` on line 5 and later.
func frontendMessages(_ keys: String) -> [String] {
  let lines = keys.split(separator: "\n").map { "    \($0)\n" }.joined()
  return messages("frontends:\n  - name: f\n    type: http\n    listen: tcp://127.0.0.1:1\n" + lines)
}

/// As `messages`, for keys of one right `pipe` transport called `t` on line 5 and later.
func pipeMessages(_ keys: String, _ environment: [String: String] = [:]) -> [String] {
  let lines = keys.split(separator: "\n").map { "    \($0)\n" }.joined()
  return messages("transports:\n  - name: t\n    type: pipe\n    path: p\n" + lines, environment)
}
