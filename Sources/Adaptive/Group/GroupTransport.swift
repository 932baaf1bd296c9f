import MagicalaneCore
import NIOCore

/// The keys of a config entry that names members, and has no others of its own.
public struct MemberOptions: Decodable, Sendable {
  var members: [String]
  var group: GroupOptions

  private enum CodingKeys: CodingKey, CaseIterable { case members }

  /// Reads the keys of every group beside its own.
  public init(from decoder: any Decoder) throws {
    members = try decoder.container(keyedBy: CodingKeys.self).decode([String].self, forKey: .members)
    group = try GroupOptions(from: decoder)
  }
}

/// What the transports that hold a `TransportGroup` have in common.
protocol GroupTransport: ChoosingTransport {
  var group: TransportGroup { get }
}

extension GroupTransport {
  /// See `ChoosingTransport`.
  public var replayLimit: Int { group.settings.replay }
  /// See `ChoosingTransport`.
  public var paths: [PathStatus] { group.paths }

  /// See `ChoosingTransport`.
  public func decisions(limit: Int) -> [Decision] { group.decisions(limit: limit) }

  /// Opens a stream through the member that is chosen, or another one that answers where it does not.
  public func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    group.connect(request, on: loop)
  }

  /// See `ChoosingTransport`.
  public func reopen(
    _ request: ConnectRequest,
    insteadOf broken: any Channel,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel>? {
    group.reopen(request, on: loop)
  }

  /// Ends the measuring; the members are ended by who built them.
  public func shutdown() async {
    await group.shutDown()
  }
}

extension TransportContext {
  /// The transports of these names, each but once.
  ///
  /// - Throws: `PluginError` at the one that is at fault.
  func members(_ names: [String]) throws(PluginError) -> [TransportMember] {
    guard names.count > 1 else {
      throw PluginError("expected at least two members, found \(names.count)", at: ["members"])
    }
    var members: [TransportMember] = []
    for (index, name) in names.enumerated() {
      let path = ["members", "\(index)"]
      guard !names[..<index].contains(name) else {
        throw PluginError("'\(name)' is a member already", at: path)
      }
      members.append(try self.members.transport(named: name, at: path))
    }
    return members
  }
}

extension TransportGroup.Parts {
  init(
    members: [TransportMember],
    settings: GroupSettings,
    trace: TraceFile? = nil,
    context: TransportContext
  ) {
    self.init(
      name: context.name,
      members: members,
      settings: settings,
      loops: context.loops,
      health: context.health,
      events: context.events,
      logger: context.logger,
      trace: trace
    )
  }
}

extension AdaptiveMember {
  /// A member as a choice sees it.
  init(_ member: TransportMember) {
    self.init(name: member.name, type: member.type, bearsLoss: member.bearsLoss)
  }
}
