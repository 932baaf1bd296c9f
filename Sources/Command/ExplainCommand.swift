import ArgumentParser
import Foundation
import MagicalaneAdaptive
import MagicalaneCore

struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Replay what an adaptive transport recorded, and show what it chose, when and why.",
    discussion: """
      With --set the samples are chosen from anew by other thresholds, such as --set enter_loss=10% \
      --set hold=30s; the keys are those of the config: \(AdaptiveSettings.Key.list). \
      The same file and settings give the same output.
      """
  )

  @Option(
    help: ArgumentHelp(
      "A file that 'trace:' in the config wrote; repeat it, oldest first.",
      valueName: "file"
    )
  )
  var trace: [String]

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp("Replay with another threshold; repeat it for more.", valueName: "key=value")
  )
  var changes: [String] = []

  @Flag(help: "One line of JSON for each decision, and one for each run.")
  var json = false

  func validate() throws {
    if trace.isEmpty { throw ValidationError("--trace is missing: the file to replay") }
  }

  func run() throws {
    let assignments = try changes.map { try assignment($0) }
    let runs = try TraceRuns(files: trace, changes: assignments)
    do {
      if json {
        try StandardOutput.write(lines: runs.runs.flatMap(ExplainJSON.lines))
      } else {
        try StandardOutput.write(lines: ExplainReport.lines(runs.runs))
      }
    } catch StandardOutput.WriteError.closed {
      // Whoever read has seen enough.
    } catch {
      throw Failure.running("\(error)")
    }
  }

  private func assignment(_ text: String) throws(Failure) -> (key: String, text: String) {
    guard let equals = text.firstIndex(of: "=") else {
      throw .usage("--set \(text.printable): expected key=value, such as enter_loss=10%")
    }
    return (String(text[..<equals]), String(text[text.index(after: equals)...]))
  }
}

extension AdaptiveSettings.Key {
  fileprivate static var list: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

/// The runs of some traces, replayed.
struct TraceRuns {
  /// One run: from a header to the next one.
  struct Run {
    var replay: TraceReplay
    /// With the settings that it was recorded with; nil where those are the ones of `replay`.
    var recorded: TraceReplay?
  }

  typealias Changes = [(key: String, text: String)]

  private(set) var runs: [Run] = []
  private let changes: Changes

  /// - Parameter changes: of the settings, each by its key and text.
  /// - Throws: bad usage, where a file or a change is bad.
  init(files: [String], changes: Changes) throws(Failure) {
    self.changes = changes
    for file in files {
      do {
        var reader = try TraceReader(path: file)
        try read(&reader, file)
      } catch let error as Failure {
        throw error
      } catch {
        throw .usage("\(error)".printable)
      }
    }
  }

  private mutating func read(_ reader: inout TraceReader, _ file: String) throws {
    // The reader gives a header before any sample, so there is a run to add to.
    while let line = try reader.next() {
      switch line {
      case .header(let header): try begin(header, file)
      case .sample(let sample):
        runs[runs.count - 1].replay.take(sample)
        runs[runs.count - 1].recorded?.take(sample)
      }
    }
  }

  private mutating func begin(_ header: TraceHeader, _ file: String) throws(Failure) {
    let settings = try changed(header.settings)
    do throws(PluginError) {
      let replay = try TraceReplay(header, settings: settings)
      let recorded = settings == header.settings ? nil : try TraceReplay(header)
      runs.append(Run(replay: replay, recorded: recorded))
    } catch {
      throw .usage("\(file): \(error.path.joined(separator: ".")): \(error)".printable)
    }
  }

  private func changed(_ settings: AdaptiveSettings) throws(Failure) -> AdaptiveSettings {
    do throws(PluginError) {
      return try settings.changed(by: changes)
    } catch {
      let key = error.path.isEmpty ? "" : " \(error.path.joined(separator: ".")):"
      throw .usage("--set\(key) \(error)".printable)
    }
  }
}
