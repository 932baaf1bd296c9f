import Logging
import NIOCore

/// A whole config file, checked: every name resolves, every plugin's options are read.
public struct Configuration: Sendable {
  /// `log:`
  public var log: LogSettings
  /// `admin:`
  public var admin: AdminSettings
  /// `limits:`, with the defaults for what it leaves out.
  public var limits: Limits
  /// `resolver:`
  public var resolver = ResolverSettings()
  /// In the order of the file.
  public var frontends: [FrontendSettings]
  /// Those of the file, and `direct` where the file does not define it.
  public var transports: [TransportSettings]
  /// Where relative paths in the file start.
  public var directory: String
  /// The values that must not be shown, as paths of keys and list indexes: `["admin", "token"]`.
  public var secrets: Set<[String]> = []
  /// What the text says, for those who show or edit it.
  var document = ConfigValue(content: .null, position: .start)
}

/// `log:`
public struct LogSettings: Sendable, Equatable {
  /// How log lines are written.
  public enum Format: String, Sendable, CaseIterable, Decodable { case text, json }
  /// Events below it are not logged.
  public var level: Logger.Level = .info
  /// `format:`
  public var format: Format = .text

  /// The defaults.
  public init() {}
}

/// `admin:`
public struct AdminSettings: Sendable, Equatable {
  /// `host:port` or `unix:/path`; nil where the admin API is off.
  public var listen: String?
  /// What callers of the admin API send; nil where none is asked for.
  public var token: String?
}

/// `limits:`
public struct Limits: Sendable, Equatable {
  /// Most bytes that may wait in one stream, per direction, where the entry does not say otherwise; nil where
  /// streams size themselves.
  public var buffer: Int?
  /// Bytes that may wait in all streams together: a quarter of the memory that there is, by default.
  public var memory = MachineMemory.quarter
  /// Sessions at once; more are answered as unavailable.
  public var sessions = 100_000
  /// From a finished request to an open stream, all addresses tried.
  public var connectTimeout = TimeAmount.seconds(10)
  /// From accept to a finished request.
  public var handshakeTimeout = TimeAmount.seconds(10)
  /// Without a byte either way.
  public var idleTimeout = TimeAmount.minutes(5)
  /// For running sessions after SIGTERM, or when their frontend or transport is replaced.
  public var drainTimeout = TimeAmount.seconds(30)

  /// The most that a stream which sizes itself comes to, per direction.
  ///
  /// Three quarters of it hold what a path of 1 Gbit/s and 100 ms keeps in flight (12.5 MB), with room for
  /// acknowledgements that come late; docs/quic.md has the figures.
  public static let largestOwnBuffer = 20 << 20

  /// The defaults.
  public init() {}
}

/// One entry under `frontends:`.
public struct FrontendSettings: Sendable {
  /// Letters, digits, `_`, `.` and `-`; no other of its kind has it.
  public var name: String
  /// The plugin's type.
  public var type: String
  /// Where clients come in.
  public var listen: ListenAddress
  /// The name of the transport that carries its requests.
  public var transport: String
  /// Nil where `users:` is absent: everyone may use it.
  public var users: [Credentials]?
  /// Whether requests from other hosts may reach loopback and link-local addresses.
  public var allowsLocalTargets: Bool
  /// Most bytes that may wait in one stream, per direction; nil where streams size themselves.
  public var buffer: Int?
  /// From accept to a finished request.
  public var handshakeTimeout: TimeAmount
  /// Without a byte either way.
  public var idleTimeout: TimeAmount
  /// Builds the frontend: checks its options, opens nothing.
  public var makeFrontend: @Sendable (FrontendContext) throws -> any Frontend
  /// Builds its listener: checks the options and reads the files they name, opens nothing.
  public var makeListener: @Sendable (ListenContext) throws -> any TransportListener
  /// Equal for two entries with the same effect as far as the config can tell; secrets are part of it.
  ///
  /// Quotes, order of keys, and defaults written out make no difference. A file that an entry names as a
  /// `FilePath` is part of it: a renewed certificate makes another entry.
  public var fingerprint: String
  /// Where the entry stands.
  var origin = EntryOrigin()

  /// Places what `makeFrontend` or `makeListener` threw in the config file.
  public func problem(for error: any Error) -> ConfigProblem {
    origin.problem(for: error)
  }
}

/// One entry under `transports:`.
public struct TransportSettings: Sendable {
  /// Letters, digits, `_`, `.` and `-`; no other of its kind has it.
  public var name: String
  /// The plugin's type.
  public var type: String
  /// What it shows to its server; nil where there are none.
  public var credentials: Credentials?
  /// Most bytes that may wait in one stream, per direction; nil where streams size themselves.
  public var buffer: Int?
  /// From a finished request to an open stream, all addresses tried.
  public var connectTimeout: TimeAmount
  /// Builds the transport: checks the options and reads the files they name, opens nothing.
  public var makeTransport: @Sendable (TransportContext) throws -> any Transport
  /// As `FrontendSettings.fingerprint`.
  public var fingerprint: String
  /// Where the entry stands.
  var origin = EntryOrigin()

  /// Places what `makeTransport` threw in the config file.
  public func problem(for error: any Error) -> ConfigProblem {
    origin.problem(for: error)
  }
}

/// Where an entry stands in its file; the default is for settings made by hand.
struct EntryOrigin: Sendable {
  var file = "config"
  /// What messages call the entry: `frontend 'socks'`.
  var label = "entry"
  var path: [String] = []
  var value = ConfigValue(content: .null, position: .start)

  /// At the key that a `PluginError` names, else where the entry begins.
  func problem(for error: any Error) -> ConfigProblem {
    let plugin = error as? PluginError
    let inner = plugin?.path ?? []
    let place = value.keyPosition(at: inner)
    let key = inner.isEmpty ? "" : "'\(inner.dottedPath)' in "
    return ConfigProblem(
      file: file,
      line: place.line,
      column: place.column,
      path: path + inner,
      message: "\(key)\(label): \(plugin?.description ?? "\(error)")"
    )
  }
}
