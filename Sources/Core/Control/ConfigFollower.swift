/// A part of the program beside the runtime that goes by the config: the admin API's listener, the log.
public protocol ConfigFollower: Sendable {
  /// Checks and opens what another config needs, and touches nothing that runs.
  ///
  /// - Parameter current: the config that runs; nil at start.
  /// - Throws: `PluginError` whose path starts at the root of the config: `["admin", "listen"]`.
  func prepare(_ configuration: Configuration, inPlaceOf current: Configuration?) async throws
    -> PreparedChange
}

/// What a follower made ready; either of the two is called, once.
public struct PreparedChange: Sendable {
  /// Puts it in the place of what ran before.
  public var commit: @Sendable () async -> Void
  /// Takes it back.
  public var cancel: @Sendable () async -> Void

  /// - Parameters as the properties; by default there is nothing to do.
  public init(
    commit: @escaping @Sendable () async -> Void = {},
    cancel: @escaping @Sendable () async -> Void = {}
  ) {
    self.commit = commit
    self.cancel = cancel
  }
}
