import NIOCore

/// What one end counted, as it told it: the answer to the query of that number.
public struct PathReport: Sendable, Equatable {
  /// Of the query.
  public var number: UInt64
  /// What the end that answers counted of the leg. Round trips are told in microseconds.
  public var counts: PathCounts

  /// A report from its parts.
  public init(number: UInt64, counts: PathCounts) {
    self.number = number
    self.counts = counts
  }
}

/// A frame of a control stream (docs/path-reports.md): a byte for its type, then the length of its payload and
/// the payload. All numbers are variable-length integers (RFC 9000 §16).
enum PathFrame: Equatable {
  case query(UInt64)
  case report(PathReport)

  /// Most bytes of a payload.
  static let limit = 255

  fileprivate static let queryType: UInt8 = 1
  fileprivate static let reportType: UInt8 = 2
}

/// What is wrong with the bytes of a control stream.
struct PathFrameError: Error, Equatable, CustomStringConvertible {
  var description: String
}

/// The fields of a report that may be missing.
private struct ReportFields: OptionSet {
  let rawValue: UInt64
  static let received = ReportFields(rawValue: 1)
  static let lost = ReportFields(rawValue: 2)
  static let roundTrip = ReportFields(rawValue: 4)
}

extension PathFrame {
  /// Takes the frame at the front of `bytes`, and the frames of unknown types before it.
  ///
  /// - Returns: nil where the frame is not complete; what is there of it, some 260 bytes at most, stays.
  static func take(from bytes: inout ByteBuffer) throws(PathFrameError) -> PathFrame? {
    while let (type, payload) = try takePayload(from: &bytes) {
      switch type {
      case queryType: return .query(try number(payload))
      case reportType: return .report(try report(payload))
      default: continue
      }
    }
    return nil
  }

  private static func takePayload(
    from bytes: inout ByteBuffer
  ) throws(PathFrameError) -> (UInt8, ByteBuffer)? {
    var rest = bytes
    guard let type = rest.readInteger(as: UInt8.self), let length = rest.readVariableLength() else {
      return nil
    }
    guard length <= limit else {
      throw PathFrameError(description: "a frame of \(length) bytes, where \(limit) are the most")
    }
    guard let payload = rest.readSlice(length: Int(length)) else { return nil }
    bytes = rest
    return (type, payload)
  }

  private static func number(_ payload: ByteBuffer) throws(PathFrameError) -> UInt64 {
    var payload = payload
    return try field(&payload)
  }

  /// What stands behind the known fields is for readers to come.
  private static func report(_ payload: ByteBuffer) throws(PathFrameError) -> PathReport {
    var payload = payload
    let number = try field(&payload)
    var counts = PathCounts(sent: try field(&payload))
    let fields = ReportFields(rawValue: try field(&payload))
    if fields.contains(.received) { counts.received = try field(&payload) }
    if fields.contains(.lost) { counts.lost = try field(&payload) }
    if fields.contains(.roundTrip) {
      counts.roundTrip = PathCounts.RoundTrip(
        smoothed: try nanoseconds(&payload),
        variation: try nanoseconds(&payload)
      )
    }
    return PathReport(number: number, counts: counts)
  }

  private static func field(_ payload: inout ByteBuffer) throws(PathFrameError) -> UInt64 {
    guard let number = payload.readVariableLength() else {
      throw PathFrameError(description: "a frame that ends within a number")
    }
    return number
  }

  private static func nanoseconds(_ payload: inout ByteBuffer) throws(PathFrameError) -> UInt64 {
    let (time, isTooLong) = try field(&payload).multipliedReportingOverflow(by: 1000)
    guard !isTooLong else { throw PathFrameError(description: "a round trip of centuries") }
    return time
  }
}

extension PathFrame {
  /// The frame as it goes out.
  var bytes: ByteBuffer {
    var payload = ByteBuffer()
    let type: UInt8
    switch self {
    case .query(let number):
      type = PathFrame.queryType
      payload.writeVariableLength(number)
    case .report(let report):
      type = PathFrame.reportType
      payload.write(report)
    }
    var bytes = ByteBuffer()
    bytes.writeInteger(type)
    bytes.writeVariableLength(UInt64(payload.readableBytes))
    bytes.writeBuffer(&payload)
    return bytes
  }
}

extension ByteBuffer {
  fileprivate mutating func write(_ report: PathReport) {
    let counts = report.counts
    var fields = ReportFields()
    if counts.received != nil { fields.insert(.received) }
    if counts.lost != nil { fields.insert(.lost) }
    if counts.roundTrip != nil { fields.insert(.roundTrip) }
    let roundTrip = counts.roundTrip.map { [$0.smoothed / 1000, $0.variation / 1000] } ?? []
    let numbers = [report.number, counts.sent, fields.rawValue]
    for number in numbers + [counts.received, counts.lost].compactMap(\.self) + roundTrip {
      writeVariableLength(number)
    }
  }

  fileprivate mutating func readVariableLength() -> UInt64? {
    readEncodedInteger(as: UInt64.self, strategy: .quic)
  }

  /// Counts never come near 2^62, from where on they could not be written.
  fileprivate mutating func writeVariableLength(_ number: UInt64) {
    writeEncodedInteger(min(number, (1 << 62) - 1), strategy: .quic)
  }
}

/// What measuring costs on the wire, in bytes of IP packets both ways; estimates that are rather too high.
public enum PathReportCost {
  /// One query and its report over TLS: each in a record and a segment of its own, and the acknowledgement.
  public static let overTCP = 290
  /// One query and its report over QUIC: each in a datagram of its own, and the acknowledgement.
  public static let overQUIC = 300
  /// A new control stream over TLS: handshakes of TCP and TLS, the request, its answer.
  public static let openingOverTCP = 6000
  /// A new control stream over QUIC where its connection has to be made as well.
  public static let openingOverQUIC = 9000
}
