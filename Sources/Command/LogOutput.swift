import Foundation
import Logging
import MagicalaneAdminHTTP
import MagicalaneCore
import NIOConcurrencyHelpers

/// Where log events go: one line each on standard error, as text or as JSON.
///
/// Level and format can change while the program runs; loggers made before follow.
final class LogOutput: Sendable {
  private let settings: NIOLockedValueBox<LogSettings>

  init(_ settings: LogSettings) {
    self.settings = NIOLockedValueBox(settings)
  }

  var current: LogSettings {
    get { settings.withLockedValue { $0 } }
    set { settings.withLockedValue { $0 = newValue } }
  }

  func makeLogger() -> Logger {
    Logger(label: "magicalane") { _ in LineLogHandler(output: self) }
  }

  /// Writes one event; whole lines never mix, whichever threads they come from.
  func write(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata) {
    let time = Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    let line =
      switch current.format {
      case .text: LogLine.text(time, level, message, metadata)
      case .json: LogLine.json(time, level, message, metadata)
      }
    FileHandle.standardError.write(Data((line + "\n").utf8))
  }
}

extension LogOutput {
  /// For the admin API, which knows levels by name.
  var levelControl: LogLevelControl {
    LogLevelControl(
      get: { self.current.level.rawValue },
      set: { name in
        guard let level = Logger.Level(rawValue: name) else { return false }
        self.current.level = level
        return true
      }
    )
  }
}

/// The log goes by the config; a level that was set by hand holds until `log:` changes.
extension LogOutput: ConfigFollower {
  func prepare(_ configuration: Configuration, inPlaceOf current: Configuration?) async throws
    -> PreparedChange
  {
    guard configuration.log != current?.log else { return PreparedChange() }
    return PreparedChange(commit: { self.current = configuration.log })
  }
}

/// The two forms of a log line.
enum LogLine {
  /// `TIME LEVEL message key=value …`, keys sorted; control characters in values are escaped, so that nothing
  /// that a peer sends can look like a line of its own.
  static func text(_ time: String, _ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata)
    -> String
  {
    let pairs = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\(quoted("\($0.value)"))" }
    return "\(time) \(level.rawValue) \(escaped(message))\(pairs.joined())"
  }

  /// One JSON object: `time`, `level`, `message`, and the metadata as strings.
  static func json(_ time: String, _ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata)
    -> String
  {
    var object = metadata.mapValues { "\($0)" }
    object["time"] = time
    object["level"] = level.rawValue
    object["message"] = message
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // A dictionary of strings always encodes; the empty object stands for the impossible.
    return (try? encoder.encode(object)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
  }

  private static func quoted(_ value: String) -> String {
    let needsQuotes = value.isEmpty || value.unicodeScalars.contains { $0 == " " || $0 == "\"" || $0 == "=" }
    let text = escaped(value)
    return needsQuotes ? "\"" + text.replacing("\"", with: "\\\"") + "\"" : text
  }

  private static func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { result, scalar in
      if isControl(scalar) {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
  }
}

/// swift-log's side of `LogOutput`.
private struct LineLogHandler: LogHandler {
  let output: LogOutput
  var metadata: Logger.Metadata = [:]

  /// The output's level, so that a change reaches every logger.
  var logLevel: Logger.Level {
    get { output.current.level }
    set {}
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var metadata = metadata.merging(event.metadata ?? [:]) { $1 }
    if let error = event.error { metadata["error"] = "\(error)" }
    output.write(event.level, "\(event.message)", metadata)
  }
}
