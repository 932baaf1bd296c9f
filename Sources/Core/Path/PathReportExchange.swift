import NIOCore

/// Why a control stream ended.
public enum PathReportError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The server answered with a status that says that it knows nothing of reports.
  case lacking(status: Int)
  /// The server knows us not, or does not let us in.
  case refused(status: Int)
  /// The server could not be asked, or the stream broke or ended; another one may do better.
  case lost(String)
  /// The server sent what is not the protocol.
  case violation(String)
  /// This end closed it.
  case closed

  /// One line for a log.
  public var description: String {
    switch self {
    case .lacking(let status): "the server lacks path reports (\(status))"
    case .refused(let status): "the server refused path reports (\(status))"
    case .lost(let reason): "the control stream is lost: \(reason)"
    case .violation(let reason): "the server broke the protocol of path reports: \(reason)"
    case .closed: "the control stream was closed here"
    }
  }
}

/// Names of the protocol in HTTP heads (docs/path-reports.md).
package enum PathReportProtocol {
  /// What `Upgrade` says.
  package static let name = "magicalane-path/1"
  /// The target of the request (RFC 8615).
  package static let path = "/.well-known/magicalane/path"
}

/// The client's side of a control stream: bytes in, events out; no channel and no clock.
///
///     asking ── 101 ──► agreed: queries go out, reports come in
///        └── anything else ──► PathReportError
struct PathReportExchange {
  enum Event: Equatable {
    /// Queries may be sent.
    case agreed
    case report(PathReport)
  }

  private enum State { case asking, agreed }

  private let leg: LegID
  private let credentials: Credentials?
  private let host: String
  private var state = State.asking
  private var reader = HTTPHeadReader()
  private var lastQuery: UInt64 = 0

  /// - Parameter host: the value of `Host`.
  init(leg: LegID, credentials: Credentials?, host: String) {
    self.leg = leg
    self.credentials = credentials
    self.host = host
  }

  /// The request head.
  var request: ByteBuffer {
    var head = "GET \(PathReportProtocol.path) HTTP/1.1\r\nHost: \(host)\r\n"
    head += "Connection: Upgrade\r\nUpgrade: \(PathReportProtocol.name)\r\n\(LegID.field): \(leg)\r\n"
    if let credentials { head += "Proxy-Authorization: \(credentials.basicAuthorization)\r\n" }
    return ByteBuffer(string: head + "\r\n")
  }

  /// The next query, numbered from 1; nil before the server agreed.
  mutating func query() -> (number: UInt64, bytes: ByteBuffer)? {
    guard case .agreed = state else { return nil }
    lastQuery += 1
    return (lastQuery, PathFrame.query(lastQuery).bytes)
  }

  /// Takes what it can from the front of `bytes`.
  ///
  /// - Returns: nil where more bytes are needed; call again else.
  mutating func receive(_ bytes: inout ByteBuffer) throws(PathReportError) -> Event? {
    switch state {
    case .asking: try receiveHead(&bytes)
    case .agreed: try receiveReport(&bytes)
    }
  }

  private mutating func receiveHead(_ bytes: inout ByteBuffer) throws(PathReportError) -> Event? {
    while let head = try takeHead(&bytes) {
      switch head.responseStatus {
      case nil: throw .violation("no HTTP/1 status line")
      case 101?:
        guard head.lists(PathReportProtocol.name, in: "Upgrade") else {
          throw .violation("an upgrade to something else")
        }
        state = .agreed
        return .agreed
      case (100...199)?: continue
      case let status?: throw Self.failure(status)
      }
    }
    return nil
  }

  private mutating func takeHead(_ bytes: inout ByteBuffer) throws(PathReportError) -> HTTPHead? {
    do {
      return try reader.read(&bytes)
    } catch {
      throw .violation("no valid HTTP/1 head")
    }
  }

  /// A status that says nothing of the kind may pass; everything else stays as it is for this server.
  private static func failure(_ status: Int) -> PathReportError {
    switch status {
    case 401, 403, 407: .refused(status: status)
    case 408, 429, 500, 502, 503, 504: .lost("the server answered \(status)")
    default: .lacking(status: status)
    }
  }

  private func receiveReport(_ bytes: inout ByteBuffer) throws(PathReportError) -> Event? {
    do throws(PathFrameError) {
      guard let frame = try PathFrame.take(from: &bytes) else { return nil }
      guard case .report(let report) = frame else {
        throw PathFrameError(description: "a query by the server")
      }
      guard report.number <= lastQuery else {
        throw PathFrameError(description: "a report on query \(report.number), which was not sent")
      }
      return .report(report)
    } catch {
      throw .violation(error.description)
    }
  }
}
