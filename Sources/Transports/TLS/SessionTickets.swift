import NIOConcurrencyHelpers

/// The tickets by which a client resumes sessions with its server.
///
/// Each is used once, so that nobody on the path can tell two connections to be the same client's
/// (RFC 8446 §C.4). Thread-safe.
final class SessionTickets: Sendable {
  /// More would only be kept for a burst of connections; the newest are the least likely to have expired.
  private static let limit = 16

  private let tickets = NIOLockedValueBox<[[UInt8]]>([])

  init() {}

  /// Keeps a ticket, in place of the oldest where there are too many.
  func add(_ ticket: [UInt8]) {
    tickets.withLockedValue { tickets in
      if tickets.count == SessionTickets.limit { tickets.removeFirst() }
      tickets.append(ticket)
    }
  }

  /// The newest, which is the caller's from then on.
  func take() -> [UInt8]? {
    tickets.withLockedValue { $0.popLast() }
  }
}
