import Foundation
import Logging
import MagicalaneCore
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
  let registry: Registry
  let output: LogOutput

  init(source: ConfigSource, registry: Registry) {
    self.source = source
    self.registry = registry
    self.output = LogOutput(LogSettings())
  }

  /// - Throws: `Failure`.
  func run() async throws {
    let signals = await Service.trapSignals()
    let configuration = try source.load(registry)
    output.current = configuration.log
    let runtime = try await start(configuration)
    await serve(runtime, until: signals)
  }

  /// Takes over the signals, before anybody can be told that the program runs.
  static func trapSignals() async -> UnixSignalsSequence {
    await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup)
  }

  /// Builds and binds everything, and says on standard error what listens where.
  func start(_ configuration: Configuration) async throws -> Runtime {
    prepareProcess()
    let runtime = Runtime(loops: .singletonMultiThreadedEventLoopGroup, logger: output.makeLogger())
    do throws(RuntimeErrors) {
      try await runtime.apply(configuration)
    } catch {
      let isBadConfig = error.errors.contains { $0.step == .build }
      throw Failure(message: "\(error)", status: isBadConfig ? 2 : 1)
    }
    for listening in await runtime.listening { announce(listening) }
    return runtime
  }

  /// Follows signals until the last session has ended.
  ///
  /// - Parameters:
  ///   - alongside: further runtimes that drain with this one.
  ///   - signals: as `trapSignals` gave them.
  func serve(_ runtime: Runtime, alongside others: [Runtime] = [], until signals: UnixSignalsSequence) async {
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
        logger.info("stopped", metadata: ["broken_off": "\(brokenOff)"])
        return
      case .signal(.sighup):
        if !isDraining { await reload(runtime, logger) }
      case .signal where isDraining:
        logger.info("stopped at once")
        return
      case .signal(let signal):
        isDraining = true
        logger.info("draining", metadata: ["signal": "\(signal)"])
        Task {
          var brokenOff = 0
          for runtime in [runtime] + others { brokenOff += await runtime.drain() }
          continuation.yield(.drained(brokenOff: brokenOff))
        }
      }
    }
  }

  private func reload(_ runtime: Runtime, _ logger: Logger) async {
    do {
      let configuration = try source.load(registry)
      do throws(RuntimeErrors) {
        try await runtime.apply(configuration)
      } catch {
        throw Failure.usage("\(error)")
      }
      output.current = configuration.log
      logger.notice("config applied", metadata: ["config": "\(source.name)"])
      for listening in await runtime.listening { announce(listening) }
    } catch {
      let reason = (error as? Failure)?.message ?? "\(error)"
      logger.error(
        "config refused, the one before goes on",
        metadata: ["config": "\(source.name)", "error": "\(reason)"]
      )
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
