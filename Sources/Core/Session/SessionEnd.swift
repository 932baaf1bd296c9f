/// How a session ended.
enum SessionEnd: Sendable {
  /// The client went away before its request was answered.
  case left(reason: String)
  /// The client's request did not come in time.
  case handshakeTimedOut
  /// The frontend refused: no request that it understands, or nobody who may come in.
  case refused(reason: String)
  /// This end broke it off before its streams were joined.
  case aborted(reason: String)
  /// No stream to the target could be opened.
  case failed(OpenError)
  /// The client asked what this end counted of a leg, and that came to its end.
  case reported(reason: String)
  /// The streams were joined, and this is how that ended.
  case joined(Duplex.Outcome)
}

extension SessionEnd: CustomStringConvertible {
  /// One line for the log.
  var description: String {
    switch self {
    case .left(let reason), .refused(let reason), .aborted(let reason), .reported(let reason):
      reason
    case .handshakeTimedOut: "the handshake took too long"
    case .failed(let error): "\(error.kind): \(error.message)"
    case .joined(let outcome): outcome.reason
    }
  }

  /// As metrics count it.
  var outcome: SessionOutcome {
    switch self {
    case .left: .clientLeft
    case .handshakeTimedOut: .handshakeTimeout
    case .refused: .badRequest
    case .aborted: .aborted
    case .failed(let error): .refused(error.kind)
    case .reported: .reported
    case .joined(let outcome): SessionOutcome(outcome)
    }
  }

  /// What a status shows as the last error; nil for ends that everybody expects.
  var failure: String? {
    switch self {
    case .left, .handshakeTimedOut, .refused, .aborted, .reported, .joined(.finished), .joined(.idle),
      .joined(.aborted):
      nil
    case .failed, .joined(.failed): description
    }
  }
}
