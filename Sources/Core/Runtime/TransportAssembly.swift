import NIOConcurrencyHelpers

/// Builds the transports of one config, each after those that it holds, and keeps of the running ones what says the
/// same as before.
///
/// A transport that holds others is built anew with any of them, for it holds them as values. Locked, because
/// plugins ask it from wherever they are built; in fact the runtime alone drives it.
final class TransportAssembly: Sendable {
  /// Makes one from its entry.
  typealias Make =
    @Sendable (TransportSettings, TransportMembers, PartID) throws(RuntimeError) -> RunningTransport

  private struct State {
    var built: [String: RunningTransport] = [:]
    var failed: Set<String> = []
    var errors: [RuntimeError] = []
    /// The transports that are being built, each by order of the one before it.
    var underway: [String] = []
    /// What each asked for so far.
    var held: [String: [String: PartID]] = [:]
    var lastID: PartID
  }

  private let settings: [String: TransportSettings]
  private let running: [String: RunningTransport]
  private let make: Make
  private let state: NIOLockedValueBox<State>

  /// - Parameters:
  ///   - running: what may be kept.
  ///   - lastID: the last one that was given away.
  init(
    _ settings: [TransportSettings],
    running: [String: RunningTransport],
    lastID: PartID,
    make: @escaping Make
  ) {
    self.settings = Dictionary(settings.map { ($0.name, $0) }) { first, _ in first }
    self.running = running
    self.make = make
    state = NIOLockedValueBox(State(lastID: lastID))
  }

  /// Builds all; what could not be built is missing and stands in `errors`.
  func build() -> (transports: [String: RunningTransport], errors: [RuntimeError], lastID: PartID) {
    for name in settings.values.sorted(by: { $0.origin.path.lexicographicallyPrecedes($1.origin.path) }).map(
      \.name
    ) {
      _ = try? member(name)
    }
    return state.withLockedValue { ($0.built, $0.errors, $0.lastID) }
  }

  /// The transport of that name, for one that holds it.
  private func member(_ name: String) throws(PluginError) -> TransportMember {
    guard let settings = settings[name] else { throw unknown(name) }
    let state = state.withLockedValue { $0 }
    if let ready = state.built[name] { return hand(out: ready) }
    if state.underway.contains(name) {
      throw PluginError("'\(name)' would hold itself: \((state.underway + [name]).joined(separator: " → "))")
    }
    guard !state.failed.contains(name), let ready = assemble(settings) else {
      throw PluginError("transport '\(name)' could not be built")
    }
    return hand(out: ready)
  }

  private func unknown(_ name: String) -> PluginError {
    let near = name.nearest(among: Array(settings.keys))
    let known = settings.keys.sorted().joined(separator: ", ")
    return PluginError(
      "no transport is named \(name.quotedForMessage)"
        + (near.map { "; did you mean '\($0)'?" } ?? "; there are: \(known)")
    )
  }

  /// Notes who holds it.
  private func hand(out transport: RunningTransport) -> TransportMember {
    let name = transport.settings.name
    state.withLockedValue { state in
      if let holder = state.underway.last { state.held[holder, default: [:]][name] = transport.id }
    }
    return TransportMember(name: name, transport: transport.transport, health: transport.health)
  }

  private func assemble(_ settings: TransportSettings) -> RunningTransport? {
    let name = settings.name
    if let kept = keep(settings) {
      state.withLockedValue { $0.built[name] = kept }
      return kept
    }
    let id = state.withLockedValue { state in
      state.underway.append(name)
      state.held[name] = nil
      state.lastID += 1
      return state.lastID
    }
    let result = Result { () throws(RuntimeError) in
      try make(settings, TransportMembers { [self] name throws(PluginError) in try member(name) }, id)
    }
    return state.withLockedValue { state in
      state.underway.removeLast()
      switch result {
      case .success(var made):
        made.members = state.held[name] ?? [:]
        state.built[name] = made
        return made
      case .failure(let error):
        state.failed.insert(name)
        state.errors.append(error)
        return nil
      }
    }
  }

  /// The running one where neither its entry nor a transport that it holds changed.
  private func keep(_ settings: TransportSettings) -> RunningTransport? {
    guard let running = running[settings.name], running.settings.fingerprint == settings.fingerprint else {
      return nil
    }
    state.withLockedValue { $0.underway.append(settings.name) }
    defer { state.withLockedValue { _ = $0.underway.popLast() } }
    let isSame = running.members.allSatisfy { name, id in
      (try? member(name)) != nil && state.withLockedValue { $0.built[name]?.id } == id
    }
    return isSame ? running : nil
  }
}
