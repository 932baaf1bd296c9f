import MagicalaneCore

/// Takes the first of its members that works, in the order of the config.
public struct FallbackTransport: GroupTransport {
  /// The name in the config.
  public static let type = "fallback"
  let group: TransportGroup

  /// - Throws: `PluginError` that names the key at fault.
  public init(options: MemberOptions, context: TransportContext) throws {
    let members = try context.members(options.members)
    group = TransportGroup(
      TransportGroup.Parts(members: members, settings: try GroupSettings(options.group), context: context),
      choice: FallbackChoice(members: members.map(AdaptiveMember.init))
    )
  }
}
