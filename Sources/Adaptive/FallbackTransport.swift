import MagicalaneCore

/// Takes the first of its members that works, in the order of the config.
public struct FallbackTransport: GroupTransport {
  /// The keys of its config entry.
  public struct Options: Decodable, Sendable {
    var members: [String]
    var group: GroupOptions

    private enum CodingKeys: CodingKey, CaseIterable { case members }

    /// Reads the keys of every group beside its own.
    public init(from decoder: any Decoder) throws {
      members = try decoder.container(keyedBy: CodingKeys.self).decode([String].self, forKey: .members)
      group = try GroupOptions(from: decoder)
    }
  }

  /// The name in the config.
  public static let type = "fallback"
  let group: TransportGroup

  /// - Throws: `PluginError` that names the key at fault.
  public init(options: Options, context: TransportContext) throws {
    let members = try context.members(options.members)
    group = TransportGroup(
      TransportGroup.Parts(members: members, settings: try GroupSettings(options.group), context: context),
      choice: FallbackChoice(members: members.map(AdaptiveMember.init))
    )
  }
}
