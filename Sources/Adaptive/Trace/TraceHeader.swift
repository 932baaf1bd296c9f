import Foundation

/// The line that begins each run in a trace: what the samples behind it mean.
///
/// A trace is a file of JSON Lines: a header, then one `PathSample` a line. A transport that is built anew goes on
/// in the same file behind a header of its own.
public struct TraceHeader: Sendable, Codable, Equatable {
  /// Names the form of the lines; another form has another name.
  public static let format = "magicalane-trace/1"

  /// `format`.
  public var format = Self.format
  /// The name of the adaptive transport.
  public var transport: String
  /// In the order of the config, and of the legs of each sample.
  public var members: [AdaptiveMember]
  /// By which the transport chose.
  public var settings: AdaptiveSettings

  /// A header of this form.
  public init(transport: String, members: [AdaptiveMember], settings: AdaptiveSettings) {
    self.transport = transport
    self.members = members
    self.settings = settings
  }
}

/// The text of a trace, line by line.
public enum TraceLine: Sendable, Equatable {
  /// A run begins.
  case header(TraceHeader)
  /// What was seen in it next.
  case sample(PathSample)

  /// One line of JSON with its end; the same value gives the same bytes.
  ///
  /// - Throws: where a number is none, which JSON cannot write.
  public func text() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let data =
      switch self {
      case .header(let header): try encoder.encode(header)
      case .sample(let sample): try encoder.encode(sample)
      }
    return String(decoding: data, as: UTF8.self) + "\n"
  }
}
