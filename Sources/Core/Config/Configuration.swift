import Logging
import NIOCore

/// A whole config file, checked: every name resolves, every plugin's options are read.
public struct Configuration: Sendable {
  public var log: LogSettings
  public var admin: AdminSettings
  public var limits: Limits
  public var frontends: [FrontendSettings]
  /// Those of the file, and `direct` where the file does not define it.
  public var transports: [TransportSettings]
  /// Where relative paths in the file start.
  public var directory: String
}

/// `log:`
public struct LogSettings: Sendable, Equatable {
  public enum Format: String, Sendable, CaseIterable, Decodable { case text, json }
  public var level: Logger.Level = .info
  public var format: Format = .text

  public init() {}
}

/// `admin:`
public struct AdminSettings: Sendable, Equatable {
  /// `host:port` or `unix:/path`; nil where the admin API is off.
  public var listen: String?
  public var token: String?
}

/// `limits:`
public struct Limits: Sendable, Equatable {
  /// Most bytes that may wait in one stream, per direction, where the entry does not say otherwise.
  ///
  /// The default holds what a path of 1 Gbit/s and 100 ms keeps in flight (12.5 MB).
  public var buffer = 16 << 20
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
}

/// One entry under `frontends:`.
public struct FrontendSettings: Sendable {
  public var name: String
  public var type: String
  public var listen: ListenAddress
  public var transport: String
  /// Nil where `users:` is absent: everyone may use it.
  public var users: [Credentials]?
  public var allowsLocalTargets: Bool
  public var buffer: Int
  public var handshakeTimeout: TimeAmount
  public var idleTimeout: TimeAmount
  public var makeFrontend: @Sendable (FrontendContext) throws -> any Frontend
  public var makeListener: @Sendable (ListenContext) throws -> any TransportListener
  /// Equal for two entries that say the same, however they are written; secrets are part of it.
  public var fingerprint: String
}

/// One entry under `transports:`.
public struct TransportSettings: Sendable {
  public var name: String
  public var type: String
  public var credentials: Credentials?
  public var buffer: Int
  public var connectTimeout: TimeAmount
  public var makeTransport: @Sendable (TransportContext) throws -> any Transport
  /// Equal for two entries that say the same, however they are written; secrets are part of it.
  public var fingerprint: String
}
