import Foundation

/// What went wrong last at a frontend or a transport.
public struct LastError: Sendable {
  /// When.
  public var time: Date
  /// One line, without secrets.
  public var message: String
}

/// What a frontend or a transport carried since the program started.
public struct Totals: Sendable {
  /// Live sessions, those in their handshake included.
  public var sessions = 0
  /// Sessions begun.
  public var started: UInt64 = 0
  /// Requests whose target could not be opened.
  public var failed: UInt64 = 0
  /// From clients to targets.
  public var bytesUp: UInt64 = 0
  /// From targets to clients.
  public var bytesDown: UInt64 = 0
  /// The last request that failed, or session that broke.
  public var lastError: LastError?
}

/// A frontend as it runs.
public struct FrontendStatus: Sendable {
  /// Whether it takes new streams.
  public enum State: String, Sendable, CaseIterable, Codable {
    case listening
    /// A change of the config failed, and the listener could not be put back.
    case lost
    /// The program is shutting down.
    case draining
  }
  /// Of the config entry.
  public var name: String
  /// Of the config entry.
  public var type: String
  /// Whether it takes new streams.
  public var state: State
  /// As bound: with the port that the system chose where the config says 0.
  public var listen: ListenAddress
  /// The name of the transport that carries its requests.
  public var transport: String
  /// What it carried.
  public var totals: Totals
}

/// A transport as it runs.
public struct TransportStatus: Sendable {
  /// Of the config entry.
  public var name: String
  /// Of the config entry.
  public var type: String
  /// Whether its server can be reached.
  public var health: TransportHealth.State
  /// The names of the frontends whose requests it carries.
  public var frontends: [String]
  /// What it carried.
  public var totals: Totals
}

/// The program as a whole.
public struct RuntimeStatus: Sendable {
  /// Live sessions, those in their handshake included.
  public var sessions: Int
  /// Frontends that run.
  public var frontends: Int
  /// Transports that are built.
  public var transports: Int
  /// Event loops on which sessions live.
  public var eventLoops: Int
  /// How many frontends and transports were replaced or removed and wait for their sessions to end.
  public var retiring: Int
  /// Whether the program is shutting down.
  public var isDraining: Bool
  /// What waits in streams.
  public var memory: MemoryUse
}

/// A memory budget at one moment, in bytes.
public struct MemoryUse: Sendable {
  /// `limits.memory`.
  public var limit: Int
  /// What is claimed of it.
  public var used: Int
}
