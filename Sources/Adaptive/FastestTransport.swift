import MagicalaneCore

/// Takes the member that opens streams in the shortest time.
public struct FastestTransport: GroupTransport {
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
  public static let type = "fastest"
  let group: TransportGroup

  /// - Throws: `PluginError` that names the key at fault.
  public init(options: Options, context: TransportContext) throws {
    let members = try context.members(options.members)
    var settings = try GroupSettings(options.group)
    settings.measuresOpening = true
    group = TransportGroup(
      TransportGroup.Parts(members: members, settings: settings, context: context),
      choice: FastestChoice(members: members.map(AdaptiveMember.init))
    )
  }
}
