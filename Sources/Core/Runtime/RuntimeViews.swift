/// What others may see of a runtime, and the one thing that they may do to a session.
extension Runtime {
  /// The frontends as they listen, by name.
  public var listening: [Listening] {
    frontends.values.map {
      Listening(
        name: $0.settings.name,
        type: $0.settings.type,
        address: $0.bound,
        transport: $0.settings.transport
      )
    }.sorted { $0.name < $1.name }
  }

  /// The program as a whole.
  public var status: RuntimeStatus {
    RuntimeStatus(
      sessions: sessions.count,
      frontends: frontends.count,
      transports: transports.count,
      eventLoops: loops.makeIterator().reduce(into: 0) { count, _ in count += 1 },
      retiring: retiring.count,
      isDraining: isDraining,
      memory: MemoryUse(limit: memory.limit, used: memory.used)
    )
  }

  /// The frontends that run, by name.
  public var frontendStatuses: [FrontendStatus] {
    let totals = sessions.totals.frontends
    return frontends.values.map {
      FrontendStatus(
        name: $0.settings.name,
        type: $0.settings.type,
        state: isDraining ? .draining : lost.contains($0.settings.name) ? .lost : .listening,
        listen: $0.bound,
        transport: $0.settings.transport,
        totals: totals[$0.settings.name] ?? Totals()
      )
    }.sorted { $0.name < $1.name }
  }

  /// The transports that are built, by name.
  public var transportStatuses: [TransportStatus] {
    let totals = sessions.totals.transports
    return transports.values.map { running in
      let name = running.settings.name
      return TransportStatus(
        name: name,
        type: running.settings.type,
        health: running.health.state,
        frontends: frontends.values.filter { $0.settings.transport == name }.map(\.settings.name).sorted(),
        totals: totals[name] ?? Totals()
      )
    }.sorted { $0.name < $1.name }
  }

  /// The transport of that name where it chooses between others; nil where it does not, or there is none.
  public func choosingTransport(_ name: String) -> (any ChoosingTransport)? {
    transports[name]?.transport as? any ChoosingTransport
  }

  /// Live sessions, those in their handshake included.
  public nonisolated var sessionCount: Int { sessions.count }

  /// All live sessions, in no order.
  public nonisolated var liveSessions: [SessionInfo] { sessions.live }

  /// One live session; nil where there is none of that id.
  public nonisolated func session(_ id: UInt64) -> SessionInfo? { sessions.info(id) }

  /// What waits in the streams of these sessions; those that ended meanwhile are left out.
  public nonisolated func waitingBytes(in ids: some Sequence<UInt64>) async -> [UInt64: WaitingBytes] {
    await sessions.waiting(in: ids)
  }

  /// Breaks one session off; its peers see an error.
  ///
  /// - Returns: false where there is none of that id.
  public nonisolated func endSession(_ id: UInt64, reason: String) -> Bool {
    sessions.end(id, reason: reason)
  }
}
