import FoundationEssentials
import MagicalaneCore

/// Reads and sets the level of the log.
public struct LogLevelControl: Sendable {
  /// The name of the level that holds: one of swift-log's.
  public var get: @Sendable () -> String
  /// Sets it; false where there is no such level.
  public var set: @Sendable (String) -> Bool

  /// A control from its two directions.
  public init(get: @escaping @Sendable () -> String, set: @escaping @Sendable (String) -> Bool) {
    self.get = get
    self.set = set
  }
}

/// The REST API: requests in, answers out. `openapi.yaml` is its contract.
///
/// It has no socket and no thread; `AdminServer` puts it behind libmicrohttpd.
struct AdminAPI: Sendable {
  let live: LiveConfig
  let metrics: PrometheusExporter
  let logLevel: LogLevelControl
  let version: String
  let started = Date.now
  /// Tells the events of this run of the program from those of another.
  let instance = String(UInt32.random(in: .min ... .max), radix: 16)

  var runtime: Runtime { live.runtime }

  /// Every path and verb.
  var router: Router {
    var router = Router()
    addStatus(to: &router)
    addConfig(to: &router)
    for section in ConfigSection.allCases { addEntries(of: section, to: &router) }
    addSessions(to: &router)
    addPaths(to: &router)
    addEvents(to: &router)
    addLogLevel(to: &router)
    return router
  }
}
