import MagicalaneCore

/// Takes the member that opens streams in the shortest time.
public struct FastestTransport: GroupTransport {
  /// The name in the config.
  public static let type = "fastest"
  let group: TransportGroup

  /// - Throws: `PluginError` that names the key at fault.
  public init(options: MemberOptions, context: TransportContext) throws {
    let members = try context.members(options.members)
    var settings = try GroupSettings(options.group)
    settings.measuresOpening = true
    group = TransportGroup(
      TransportGroup.Parts(members: members, settings: settings, context: context),
      choice: FastestChoice(members: members.map(AdaptiveMember.init))
    )
  }
}
