import CoreMetrics
import Dispatch
import Logging
import MagicalaneCore
import NIOConcurrencyHelpers

/// The admin API as it listens. It goes by `admin:` of the config, its own address included.
public final class AdminServer: Sendable {
  /// What listens now.
  private struct Open {
    var daemon: HTTPDaemon
    var addresses: [String]
  }

  private struct State {
    var open: Open?
    var rules = AccessRules(token: nil, listen: "")
  }

  private let router: Router
  private let logger: Logger
  private let requests: AdminRequestMetrics
  private let state = NIOLockedValueBox(State())

  /// An API that listens nowhere before the config says where.
  ///
  /// - Parameters:
  ///   - metrics: what `/metrics` shows.
  ///   - version: of the program.
  public init(
    live: LiveConfig,
    metrics: PrometheusExporter,
    logLevel: LogLevelControl,
    version: String,
    logger: Logger
  ) {
    router = AdminAPI(live: live, metrics: metrics, logLevel: logLevel, version: version).router
    requests = AdminRequestMetrics()
    self.logger = logger
  }

  /// Where it listens, as bound: `127.0.0.1:9090`, `unix:/path`. Empty where it does not.
  public var addresses: [String] { state.withLockedValue { $0.open?.addresses ?? [] } }

  /// Stops listening, when the requests at hand are answered.
  public func stop() async {
    let open = state.withLockedValue { state in
      defer { state.open = nil }
      return state.open
    }
    await open?.daemon.stop()
  }
}

extension AdminServer: ConfigFollower {
  /// Binds the new address, where it is another one, before the old is let go.
  public func prepare(
    _ configuration: Configuration,
    inPlaceOf current: Configuration?
  ) async throws -> PreparedChange {
    let (old, new) = (current?.admin, configuration.admin)
    let rules = new.listen.map { AccessRules(token: new.token, listen: $0) }
    guard old?.listen != new.listen else {
      return PreparedChange(commit: { [self] in if let rules { follow(rules) } })
    }
    let opened = try await new.listen.asyncMap(open)
    return PreparedChange(
      commit: { [self] in
        if let rules { follow(rules) }; replace(with: opened)
      },
      cancel: { await opened?.daemon.stop() }
    )
  }

  private func follow(_ rules: AccessRules) {
    state.withLockedValue { $0.rules = rules }
  }

  /// The answer to the request that asked for this may still be on its way through the old one.
  private func replace(with opened: Open?) {
    let old = state.withLockedValue { state in
      defer { state.open = opened }
      return state.open
    }
    Task { await old?.daemon.stop() }
  }

  private func open(_ listen: String) async throws -> Open {
    do {
      let sockets = try await withCheckedThrowingContinuation { done in
        // It asks the system's resolver, which may block.
        DispatchQueue.global().async { done.resume(with: Result { try AdminSocket.bind(listen) }) }
      }
      let daemon = try HTTPDaemon(
        sockets: sockets,
        logger: logger,
        admit: { [state] request in
          state.withLockedValue { $0.rules }.refusal(of: request).map(AdminResponse.init)
        },
        handler: { [router, requests] request in
          let response = await router.respond(to: request)
          requests.count(request, router.pattern(of: request), response)
          return response
        }
      )
      return Open(daemon: daemon, addresses: sockets.map(\.address))
    } catch {
      throw PluginError("\(error)\(hint(error))", at: ["admin", "listen"])
    }
  }

  /// The new address is bound before the old one is let go, so that the two may not overlap.
  private func hint(_ error: any Error) -> String {
    guard let error = error as? AdminSocketError, error.reason == .inUse,
      let port = error.listen.split(separator: ":").last,
      addresses.contains(where: { $0.hasSuffix(":\(port)") })
    else { return "" }
    return "; it may be this API's own: move it to another port first"
  }
}

extension Optional where Wrapped: Sendable {
  fileprivate func asyncMap<T>(_ transform: (Wrapped) async throws -> T) async rethrows -> T? {
    guard let self else { return nil }
    return try await transform(self)
  }
}

/// Counts the API's own requests, by pattern, method and status; none of them is a text of the client's choice.
final class AdminRequestMetrics: Sendable {
  private struct Kind: Hashable {
    var path: String
    var method: String
    var status: Int
  }

  private static let methods: Set = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]
  private let counters = NIOLockedValueBox<[Kind: Counter]>([:])

  func count(_ request: AdminRequest, _ pattern: String?, _ response: AdminResponse) {
    let method = Self.methods.contains(request.method) ? request.method : "other"
    let kind = Kind(path: pattern ?? "none", method: method, status: response.status)
    let counter = counters.withLockedValue { counters in
      if let known = counters[kind] { return known }
      let counter = Counter(
        label: "magicalane_admin_requests_total",
        dimensions: [("path", kind.path), ("method", method), ("status", "\(kind.status)")]
      )
      counters[kind] = counter
      return counter
    }
    counter.increment()
  }
}
