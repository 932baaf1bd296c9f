import Foundation
import MagicalaneCore

/// Why a trace cannot be read: `FILE:LINE: what`.
public struct TraceError: Error, Equatable, CustomStringConvertible {
  /// The file's name as it was given.
  public var file: String
  /// From 1; nil where it is the file itself.
  public var line: Int?
  /// What is wrong.
  public var reason: String

  /// With the place in front.
  public var description: String { "\(file):\(line.map { "\($0):" } ?? "") \(reason)" }
}

/// Reads a trace line by line.
///
/// A run's last line may be cut off, as it is where a program was killed or a disk was full: it is left out.
public struct TraceReader {
  private let file: String
  private var rest: Data.SubSequence
  private var lineNumber = 0
  private var members: Int?
  /// The lines that were left out because they are cut off.
  public private(set) var truncatedLines: [Int] = []

  /// - Parameters:
  ///   - contents: all of the file.
  ///   - file: its name, for errors.
  public init(_ contents: Data, file: String) {
    self.file = file
    rest = contents[...]
  }

  /// Reads the file at a path.
  public init(path: String) throws(TraceError) {
    do {
      self.init(try Data(contentsOf: URL(fileURLWithPath: path)), file: path)
    } catch {
      let cause = ((error as NSError).userInfo[NSUnderlyingErrorKey] as? any Error).map { $0 as NSError }
      // strerror never gives a null pointer, whatever the number.
      let reason = cause.map { String(cString: strerror(CInt(truncatingIfNeeded: $0.code))) } ?? "\(error)"
      throw TraceError(file: path, line: nil, reason: "cannot be read: \(reason)")
    }
  }

  /// The next line; nil at the end.
  public mutating func next() throws(TraceError) -> TraceLine? {
    while let line = nextLine() {
      do throws(TraceError) {
        return try read(line)
      } catch {
        guard isEndOfRun else { throw error }
        truncatedLines.append(lineNumber)
      }
    }
    if members == nil { throw problem("a trace begins with a header, and this file is empty") }
    return nil
  }

  private mutating func nextLine() -> Data.SubSequence? {
    guard !rest.isEmpty else { return nil }
    lineNumber += 1
    let end = rest.firstIndex(of: UInt8(ascii: "\n"))
    defer { rest = end.map { rest[rest.index(after: $0)...] } ?? Data() }
    return rest[..<(end ?? rest.endIndex)]
  }

  /// Whether no sample follows, so that the line before may have been cut off.
  private var isEndOfRun: Bool {
    guard members != nil else { return false }
    guard !rest.isEmpty else { return true }
    var ahead = self
    return ahead.nextLine().flatMap { try? JSONDecoder().decode(Form.self, from: $0) }?.format != nil
  }

  private mutating func read(_ line: Data.SubSequence) throws(TraceError) -> TraceLine {
    guard let form = try? JSONDecoder().decode(Form.self, from: line) else {
      throw problem("is no JSON object")
    }
    if let format = form.format {
      guard format == TraceHeader.format else {
        throw problem("is of the form '\(format)', and this program reads \(TraceHeader.format)")
      }
      let header = try decode(TraceHeader.self, line)
      members = header.members.count
      return .header(header)
    }
    guard let members else { throw problem("a trace begins with a header, and this is none") }
    let sample = try decode(PathSample.self, line)
    guard sample.legs.count == members else {
      throw problem("has \(sample.legs.count) legs where the header names \(members) members")
    }
    return .sample(sample)
  }

  /// What tells a header from a sample.
  private struct Form: Decodable {
    var format: String?
  }

  private func decode<T: Decodable>(_ type: T.Type, _ line: Data.SubSequence) throws(TraceError) -> T {
    do {
      return try JSONDecoder().decode(type, from: line)
    } catch let error as PluginError {
      throw problem("settings.\(error.path.joined(separator: ".")): \(error)")
    } catch let error as DecodingError {
      throw problem(error.place)
    } catch {
      throw problem("\(error)")
    }
  }

  private func problem(_ reason: String) -> TraceError {
    TraceError(file: file, line: lineNumber == 0 ? nil : lineNumber, reason: reason)
  }
}

extension DecodingError {
  /// `legs.0.up.sent: expected …`
  fileprivate var place: String {
    switch self {
    case .keyNotFound(let key, let context): "\(name(context.codingPath + [key])) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      "\(name(context.codingPath)): \(context.debugDescription)"
    @unknown default: "\(self)"
    }
  }

  private func name(_ path: [any CodingKey]) -> String {
    path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
  }
}
