import MagicalaneCore
import NIOCore

/// Chooses between a member that is cheap on a good path and one that bears loss, by what both ends measure.
///
/// docs/adaptive.md says how; `AdaptivePolicy` is where it is decided.
public struct AdaptiveTransport: GroupTransport {
  /// The keys of its config entry.
  public struct Options: Decodable, Sendable {
    var members: [String]
    var policy: AdaptiveSettings
    var group: GroupOptions
    var trace: TraceOptions?

    private enum CodingKeys: CodingKey, CaseIterable { case members, trace }

    /// Reads the thresholds beside its own keys.
    public init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      members = try container.decode([String].self, forKey: .members)
      trace = try container.decodeIfPresent(TraceOptions.self, forKey: .trace)
      policy = try AdaptiveSettings(from: decoder)
      group = try GroupOptions(from: decoder)
    }
  }

  /// The name in the config.
  public static let type = "adaptive"
  let group: TransportGroup

  /// - Throws: `PluginError` that names the key at fault.
  public init(options: Options, context: TransportContext) throws {
    let members = try context.members(options.members)
    var settings = try GroupSettings(options.group)
    settings.headStart = options.policy.headStart
    settings.stall = options.policy.stall
    let seen = members.map(AdaptiveMember.init)
    group = TransportGroup(
      TransportGroup.Parts(
        members: members,
        settings: settings,
        trace: try options.trace.map { try TraceFile($0, seen, options.policy, context) },
        context: context
      ),
      choice: try AdaptivePolicy(settings: options.policy, members: seen)
    )
  }
}

/// `trace:`
public struct TraceOptions: Decodable, Sendable {
  var file: String
  /// Most bytes of the file; default 16 MiB.
  var limit: ByteSize?
}

extension TraceFile {
  /// - Throws: `PluginError` where the limit is too small to be of use.
  convenience init(
    _ options: TraceOptions,
    _ members: [AdaptiveMember],
    _ settings: AdaptiveSettings,
    _ context: TransportContext
  ) throws(PluginError) {
    let limit = options.limit?.bytes ?? 16 << 20
    guard limit >= 64 << 10 else {
      throw PluginError("must be at least 64KiB, not \(limit) bytes", at: ["trace", "limit"])
    }
    let logger = context.logger
    self.init(
      path: FilePath(options.file).resolved(in: context.directory),
      limit: limit,
      header: TraceHeader(transport: context.name, members: members, settings: settings)
    ) { reason in
      logger.warning("no trace is written", metadata: ["file": "\(options.file)", "reason": "\(reason)"])
    }
  }
}
