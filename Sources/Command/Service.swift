import Foundation
import Logging
import MagicalaneAdminHTTP
import MagicalaneCore
import Metrics
import NIOConcurrencyHelpers
import NIOPosix
import UnixSignals

/// The life of one `magicalane run`: load, bind, say so, follow signals, drain.
///
///     starting ──► serving ──SIGTERM, SIGINT──► draining ──► done
///                   └─ SIGHUP: reload ─┘           └── a second one: done at once
struct Service {
  private enum Event {
    case signal(UnixSignal)
    case drained(brokenOff: Int)
  }

  let source: ConfigSource
  let output = LogOutput(LogSettings())

  /// What runs, and the API beside it.
  struct Started {
    var live: LiveConfig
    var admin: AdminServer
  }

  /// - Throws: `Failure`.
  func run() async throws {
    let signals = await Service.trapSignals()
    await serve(try await start(), until: signals)
  }

  /// Takes over the signals, before anybody can be told that the program runs.
  static func trapSignals() async -> UnixSignalsSequence {
    await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup)
  }

  /// Loads the config, builds and binds everything, and says on standard error what listens where.
  func start() async throws -> Started {
    prepareProcess()
    let configuration = try Failure.usage { try source.load() }
    output.current = configuration.log
    let logger = output.makeLogger()
    let metrics = Self.metrics(logger)
    let runtime = Runtime(loops: .singletonMultiThreadedEventLoopGroup, logger: logger, memory: .process)
    let live = LiveConfig(runtime: runtime, source: source, logger: logger)
    let admin = AdminServer(
      live: live,
      metrics: metrics,
      logLevel: output.levelControl,
      version: Magicalane.version,
      logger: logger
    )
    await live.add(output)
    await live.add(admin)
    do throws(ConfigChangeError) {
      try await live.start(configuration)
    } catch {
      if case .invalid(.bind, _) = error { throw Failure.running("\(error)") }
      throw Failure.usage("\(error)")
    }
    for listening in await runtime.listening { announce(listening) }
    announce(admin)
    return Started(live: live, admin: admin)
  }

  private static let exporter = NIOLockedValueBox<PrometheusExporter?>(nil)

  /// One for the process, as swift-metrics has it; to be had before anything is counted.
  private static func metrics(_ logger: Logger) -> PrometheusExporter {
    exporter.withLockedValue { exporter in
      if let exporter { return exporter }
      let made = PrometheusExporter(version: Magicalane.version, logger: logger)
      MetricsSystem.bootstrap(made)
      exporter = made
      return made
    }
  }

  /// Follows signals until the last session has ended.
  ///
  /// - Parameters:
  ///   - alongside: more of them that drain with this one.
  ///   - signals: as `trapSignals` gave them.
  func serve(_ started: Started, alongside others: [Started] = [], until signals: UnixSignalsSequence) async {
    let (events, continuation) = AsyncStream.makeStream(of: Event.self)
    let forwarding = Task {
      for await signal in signals { continuation.yield(.signal(signal)) }
    }
    defer { forwarding.cancel() }
    let logger = output.makeLogger()
    var isDraining = false
    for await event in events {
      switch event {
      case .drained(let brokenOff):
        for started in [started] + others { await started.admin.stop() }
        logger.info("stopped", metadata: ["broken_off": "\(brokenOff)"])
        return
      case .signal(.sighup):
        if !isDraining { await reload(started) }
      case .signal where isDraining:
        logger.info("stopped at once")
        return
      case .signal(let signal):
        isDraining = true
        logger.info("draining", metadata: ["signal": "\(signal)"])
        Task {
          var brokenOff = 0
          for started in [started] + others { brokenOff += await started.live.runtime.drain() }
          continuation.yield(.drained(brokenOff: brokenOff))
        }
      }
    }
  }

  /// What is wrong with the config is in the log already.
  private func reload(_ started: Started) async {
    guard (try? await started.live.change(.reload)) != nil else { return }
    for listening in await started.live.runtime.listening { announce(listening) }
    announce(started.admin)
  }

  private func announce(_ admin: AdminServer) {
    for address in admin.addresses {
      switch output.current.format {
      case .text: printError("admin: the API listens on \(address)")
      case .json: output.write(.notice, "listening", ["admin": "\(address)"])
      }
    }
  }

  private func announce(_ listening: Listening) {
    switch output.current.format {
    case .text:
      printError("\(listening)")
    case .json:
      output.write(
        .notice,
        "listening",
        [
          "frontend": "\(listening.name)", "type": "\(listening.type)", "listen": "\(listening.address)",
          "transport": "\(listening.transport)",
        ]
      )
    }
  }
}

/// Each session holds two descriptors or more, and the soft limit is often 1,024: use what the system allows.
private func prepareProcess() {
  // A peer that left must be an error of the write, not the end of the process.
  signal(SIGPIPE, SIG_IGN)
  var limit = rlimit()
  guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
  limit.rlim_cur = limit.rlim_max
  setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}
