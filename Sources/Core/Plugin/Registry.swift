/// Maps the type names of the config to the plugins that build them.
///
/// A value: the program fills one at start, and everything after works on that copy.
public struct Registry: Sendable {
  /// By `type`.
  public private(set) var transports: [String: any Transport.Type] = [:]
  /// By `type`.
  public private(set) var frontends: [String: any Frontend.Type] = [:]

  /// An empty one.
  public init() {}

  /// Adds a transport under its `type`; a later one of the same name takes the place of an earlier.
  public mutating func register<T: Transport>(_ transport: T.Type) {
    transports[T.type] = transport
  }

  /// Adds a frontend under its `type`; a later one of the same name takes the place of an earlier.
  public mutating func register<F: Frontend>(_ frontend: F.Type) {
    frontends[F.type] = frontend
  }
}
