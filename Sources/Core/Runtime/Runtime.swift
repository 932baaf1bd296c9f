import Logging
import NIOConcurrencyHelpers
import NIOCore

/// What runs now: frontends, transports and sessions, built from a config and replaced piece by piece when
/// the config changes.
///
/// A change is a transaction: everything is built, then everything new is bound, and only then does it take
/// the place of the old. Where a step fails, what ran before goes on.
public actor Runtime {
  /// What happens while it runs.
  public nonisolated let events: EventLog
  let loops: any EventLoopGroup
  let sessions: Sessions
  private let resolver: NameResolver
  /// Of the process, and not of this runtime alone where there are more.
  nonisolated let memory: MemoryBudget
  private let logger: Logger
  private(set) var frontends: [String: RunningFrontend] = [:]
  private(set) var transports: [String: RunningTransport] = [:]
  /// Replaced and removed parts whose sessions are not over.
  private(set) var retiring: Set<PartID> = []
  /// What those of them hold that hold others.
  private var membersOfRetiring: [PartID: Set<PartID>] = [:]
  /// Frontends whose listener could not be put back after a change that failed.
  private(set) var lost: Set<String> = []
  private(set) var isDraining = false
  private var limits = Limits()
  private var lastID: PartID = 0

  /// - Parameters:
  ///   - loops: where all sessions live.
  ///   - events: where it tells what happens.
  ///   - memory: what its streams may use; `apply` sets the limit.
  public init(
    loops: any EventLoopGroup,
    logger: Logger,
    events: EventLog = EventLog(),
    memory: MemoryBudget = MemoryBudget()
  ) {
    self.loops = loops
    self.events = events
    self.resolver = NameResolver()
    self.logger = logger
    self.memory = memory
    sessions = Sessions(events: events, memory: memory)
  }

  /// Puts a config to work, in place of the one before where there is one.
  ///
  /// Entries that say the same as before are not touched. Sessions of replaced and removed ones run to their
  /// end, or for the drain time.
  ///
  /// - Throws: `RuntimeErrors`; nothing has changed then.
  public func apply(_ configuration: Configuration) async throws(RuntimeErrors) {
    guard !isDraining else { return }
    let (newTransports, built) = try build(configuration)
    let replaced = frontends.filter { name, running in
      lost.contains(name)
        || !configuration.frontends.contains {
          $0.name == name && $0.fingerprint == running.settings.fingerprint
        }
    }
    // What a name means by now counts for the listeners that are bound.
    resolver.forgetAll()
    let bound = try await bind(built, inPlaceOf: replaced)
    await swap(configuration, newTransports, bound, replaced)
  }

  /// Builds everything that the config names, reads the files behind it, and opens nothing.
  ///
  /// - Throws: `RuntimeErrors`, every one that there is.
  public func check(_ configuration: Configuration) throws(RuntimeErrors) {
    _ = try build(configuration)
  }

  /// Accepts nothing more, waits for running sessions up to the drain time, then ends everything.
  ///
  /// - Returns: how many sessions had to be broken off.
  public func drain() async -> Int {
    isDraining = true
    for running in frontends.values { await running.listener.stopAccepting() }
    sessions.refuseNew()
    let brokenOff = await sessions.drain(within: limits.drainTimeout, on: loops.next())
    for running in frontends.values { await running.listener.close() }
    for running in transports.values { await running.transport.shutdown() }
    frontends = [:]
    transports = [:]
    return brokenOff
  }
}

// MARK: Build

extension Runtime {
  private func nextID() -> PartID {
    lastID += 1
    return lastID
  }

  /// All transports of the config, and those of its frontends that are new or changed.
  private func build(
    _ configuration: Configuration
  ) throws(RuntimeErrors) -> ([String: RunningTransport], [BuiltFrontend]) {
    let builder = transportBuilder(directory: configuration.directory)
    let assembly = TransportAssembly(
      configuration.transports,
      running: transports,
      lastID: lastID,
      make: builder
    )
    var (newTransports, errors, lastID) = assembly.build()
    self.lastID = lastID
    var built: [BuiltFrontend] = []
    for settings in configuration.frontends
    where lost.contains(settings.name)
      || frontends[settings.name]?.settings.fingerprint != settings.fingerprint
    {
      do throws(RuntimeError) {
        try built.append(build(settings, configuration, newTransports))
      } catch {
        errors.append(error)
      }
    }
    guard errors.isEmpty else { throw RuntimeErrors(errors) }
    return (newTransports, built)
  }

  /// Builds a transport from its entry.
  private func transportBuilder(directory: String) -> TransportAssembly.Make {
    { [logger, loops, resolver, events, memory] settings, members, id throws(RuntimeError) in
      var logger = logger
      logger[metadataKey: "transport"] = "\(settings.name)"
      let health = TransportHealth(name: settings.name, events: events)
      let context = TransportContext(
        name: settings.name,
        logger: logger,
        loops: loops,
        resolver: resolver,
        credentials: settings.credentials,
        buffer: settings.buffer ?? Limits.largestOwnBuffer,
        memory: StreamMemory(budget: memory, isFixed: settings.buffer != nil),
        directory: directory,
        health: health,
        events: events,
        members: members
      )
      do {
        let transport = try settings.makeTransport(context)
        return RunningTransport(id: id, settings: settings, transport: transport, health: health)
      } catch {
        throw RuntimeError(.build, settings.problem(for: error), cause: error)
      }
    }
  }

  private func build(
    _ settings: FrontendSettings,
    _ configuration: Configuration,
    _ transports: [String: RunningTransport]
  ) throws(RuntimeError) -> BuiltFrontend {
    var logger = logger
    logger[metadataKey: "frontend"] = "\(settings.name)"
    let frontendContext = FrontendContext(
      name: settings.name,
      logger: logger,
      users: settings.users.map(UserList.init)
    )
    let listenContext = ListenContext(
      name: settings.name,
      address: settings.listen,
      logger: logger,
      loops: loops,
      resolver: resolver,
      buffer: settings.buffer ?? Limits.largestOwnBuffer,
      memory: streamMemory(settings.buffer),
      directory: configuration.directory
    )
    do {
      guard let transport = transports[settings.transport] else {
        throw PluginError("transport '\(settings.transport)' could not be built", at: ["transport"])
      }
      let frontend = try settings.makeFrontend(frontendContext)
      let listener = try settings.makeListener(listenContext)
      let id = nextID()
      let route = makeRoute(
        settings,
        frontend,
        listener,
        id,
        transport,
        configuration,
        after: frontends[settings.name]
      )
      return BuiltFrontend(
        id: id,
        settings: settings,
        listener: listener,
        frontend: frontend,
        route: NIOLockedValueBox(route)
      )
    } catch {
      throw RuntimeError(.build, settings.problem(for: error), cause: error)
    }
  }

  private func makeRoute(
    _ settings: FrontendSettings,
    _ frontend: any Frontend,
    _ listener: any TransportListener,
    _ id: PartID,
    _ transport: RunningTransport,
    _ configuration: Configuration,
    after previous: RunningFrontend?
  ) -> Route {
    Route(
      frontend: frontend,
      frontendName: settings.name,
      frontendID: id,
      transport: transport.transport,
      choosing: transport.transport as? any ChoosingTransport,
      transportName: transport.settings.name,
      transportID: transport.id,
      allowsLocalTargets: settings.allowsLocalTargets,
      splicePipe: listener.yieldsPlainSockets && transport.transport.yieldsPlainSockets
        ? pipeCapacity(settings.buffer, transport.settings.buffer) : nil,
      reserved: configuration.admin.reserved,
      connectTimeout: transport.settings.connectTimeout,
      handshakeTimeout: settings.handshakeTimeout,
      idleTimeout: settings.idleTimeout,
      metrics: .following(
        previous?.route.withLockedValue { $0.metrics },
        frontend: settings.name,
        transport: transport.settings.name
      ),
      logger: logger
    )
  }

  /// - Parameter buffer: as the config gives it.
  private func streamMemory(_ buffer: Int?) -> StreamMemory {
    StreamMemory(budget: memory, isFixed: buffer != nil)
  }

  private func pipeCapacity(_ buffers: Int?...) -> Int {
    let sizes = buffers.map { streamMemory($0).least(of: $0 ?? Limits.largestOwnBuffer) }
    return SplicePipe.capacity(within: sizes.min() ?? SplicePipe.largest)
  }
}

// MARK: Bind and swap

extension Runtime {
  /// Binds what was built; a listener whose address a replaced one holds takes it over from that one.
  ///
  /// Addresses that are new come first: they may be taken, and until all are ours nothing that runs is touched.
  private func bind(
    _ built: [BuiltFrontend],
    inPlaceOf replaced: [String: RunningFrontend]
  ) async throws(RuntimeErrors) -> [RunningFrontend] {
    var bound: [RunningFrontend] = []
    var stopped: [RunningFrontend] = []
    var takenOver: [(old: RunningFrontend, by: any TransportListener)] = []
    let mayInherit = { (frontend: BuiltFrontend) in
      replaced.values.contains { $0.settings.mayLeaveItsPlace(to: frontend.settings) }
    }
    for frontend in built.filter({ !mayInherit($0) }) + built.filter(mayInherit) {
      let settings = frontend.settings
      let accept = accept(by: frontend.route)
      do {
        var inherited: ListenAddress?
        for old in replaced.values where inherited == nil && old.settings.mayLeaveItsPlace(to: settings) {
          inherited = await frontend.listener.takeOver(from: old.listener, accept: accept)
          if inherited != nil {
            takenOver.append((old, frontend.listener))
          } else if old.settings.listen == settings.listen, settings.listen.hostAndPort?.port != 0 {
            await old.listener.stopAccepting()
            stopped.append(old)
          }
        }
        let address: ListenAddress
        if let inherited {
          address = inherited
        } else {
          address = try await frontend.listener.bind(accept: accept)
        }
        bound.append(
          RunningFrontend(
            id: frontend.id,
            settings: settings,
            listener: frontend.listener,
            bound: address,
            frontend: frontend.frontend,
            route: frontend.route
          )
        )
      } catch {
        for (old, new) in takenOver {
          _ = await old.listener.takeOver(from: new, accept: self.accept(by: old.route))
        }
        // What they accepted meanwhile runs to its end, as with any frontend that is replaced.
        for running in bound { await running.listener.stopAccepting() }
        retire(bound, [])
        for old in stopped { await restart(old) }
        throw RuntimeErrors([RuntimeError(.bind, settings.problem(for: error), cause: error)])
      }
    }
    return bound
  }

  private func restart(_ old: RunningFrontend) async {
    do {
      _ = try await old.listener.bind(accept: accept(by: old.route))
    } catch {
      lost.insert(old.settings.name)
      logger.error(
        "frontend lost its listener",
        metadata: [
          "frontend": "\(old.settings.name)", "listen": "\(old.settings.listen)", "error": "\(error)",
        ]
      )
    }
  }

  private func swap(
    _ configuration: Configuration,
    _ newTransports: [String: RunningTransport],
    _ bound: [RunningFrontend],
    _ replaced: [String: RunningFrontend]
  ) async {
    let oldTransports = transports.values.filter { newTransports[$0.settings.name]?.id != $0.id }
    transports = newTransports
    limits = configuration.limits
    resolver.apply(configuration.resolver)
    sessions.setLimit(limits.sessions)
    memory.limit = limits.memory
    for name in replaced.keys { frontends[name] = nil }
    lost = []
    for running in bound { frontends[running.settings.name] = running }
    for running in frontends.values {
      guard let transport = transports[running.settings.transport] else { continue }
      let route = makeRoute(
        running.settings,
        running.frontend,
        running.listener,
        running.id,
        transport,
        configuration,
        after: running
      )
      running.route.withLockedValue { $0 = route }
    }
    for running in replaced.values { await running.listener.stopAccepting() }
    retire(Array(replaced.values), oldTransports)
  }

  /// Lets the sessions of what was replaced run out, then ends it.
  private func retire(_ oldFrontends: [RunningFrontend], _ oldTransports: [RunningTransport]) {
    let parts = Set(oldFrontends.map(\.id) + oldTransports.map(\.id))
    guard !parts.isEmpty else { return }
    retiring.formUnion(parts)
    for running in oldTransports where !running.members.isEmpty {
      membersOfRetiring[running.id] = Set(running.members.values)
    }
    // The sessions of one that holds others run through those; they must not end before it.
    let holders = membersOfRetiring.filter { !$0.value.isDisjoint(with: parts) }.keys
    Task { [sessions, limits, loop = loops.next()] in
      await sessions.drain(parts.union(holders), within: limits.drainTimeout, on: loop)
      for running in oldFrontends { await running.listener.close() }
      for running in oldTransports { await running.transport.shutdown() }
      retired(parts)
    }
  }

  private func retired(_ parts: Set<PartID>) {
    retiring.subtract(parts)
    for part in parts { membersOfRetiring[part] = nil }
    guard retiring.isEmpty else { return }
    sessions.keepTotals(frontends: Set(frontends.keys), transports: Set(transports.keys))
  }

  private func accept(
    by route: NIOLockedValueBox<Route>
  ) -> @Sendable (any Channel) -> EventLoopFuture<Void> {
    { [sessions] channel in
      let route = route.withLockedValue { $0 }
      guard let session = sessions.admit(channel, route: route) else {
        return channel.eventLoop.makeFailedFuture(OpenError(.unavailable, "shutting down"))
      }
      return channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.install(route.frontend, session: session)
      }
    }
  }
}

extension ChannelPipeline.SynchronousOperations {
  fileprivate func install(_ frontend: some Frontend, session: Session) throws {
    do {
      try addHandler(HandshakeHandler(frontend.makeHandshake(), session: session))
    } catch {
      session.ended(.failed(OpenError(error)))
      throw error
    }
  }
}

extension FrontendSettings {
  /// Whether the listener of the one could go on as that of the other. Port 0 is another place for each name.
  fileprivate func mayLeaveItsPlace(to other: FrontendSettings) -> Bool {
    if listen == other.listen { return listen.hostAndPort?.port != 0 || name == other.name }
    guard let mine = listen.hostAndPort, let its = other.listen.hostAndPort else { return false }
    return mine == its && (mine.port != 0 || name == other.name)
  }
}

extension AdminSettings {
  /// The admin listener as an address that requests from other hosts may not reach.
  var reserved: [SocketAddress] {
    guard let listen, let (host, port) = Target.split(listen), case .address(let address) = host else {
      return []
    }
    return [address.socketAddress(port: port)]
  }
}
