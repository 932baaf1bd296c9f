import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Why a stream to a target could not be opened.
///
/// Every transport reports in these words, and every frontend turns them into its own reply codes.
public struct OpenError: Error, Sendable {
  /// The causes that clients are told apart.
  public enum Kind: String, Sendable, CaseIterable {
    /// The target answered with a reset: nothing listens there.
    case refused
    case hostUnreachable
    case networkUnreachable
    /// A packet's hop limit ran out on the way (ICMP time exceeded).
    case hopLimitExceeded
    /// No address is known for the name.
    case nameNotResolved
    /// No answer within the time allowed.
    case timedOut
    /// The rules of this frontend or of the tunnel's server forbid the target.
    case notAllowed
    /// The tunnel's server did not take our credentials.
    case credentialsRefused
    /// Nothing is wrong with the target: a limit is reached, or this end is draining.
    case unavailable
    /// The tunnel's server answered with something that is not the protocol.
    case protocolViolation
    /// Anything else.
    case failed
  }

  /// What clients are told.
  public var kind: Kind
  /// One line for a log, without secrets.
  public var message: String
  /// What the layer below said.
  public var cause: (any Error)?
  /// Whether the tunnel's server could not be reached or did not do its part, so that another way to it may serve.
  /// False where the target, or a rule, is at fault.
  public var isOfTunnel = false

  /// An error from its parts.
  public init(_ kind: Kind, _ message: String, cause: (any Error)? = nil) {
    self.kind = kind
    self.message = message
    self.cause = cause
  }

  /// The same error, laid at the door of the way to the tunnel's server.
  public var ofTunnel: OpenError {
    var error = self
    error.isOfTunnel = true
    return error
  }

  /// Names the kind of any error: an `OpenError` stays as it is, system errors are told apart by `errno`.
  public init(_ error: any Error) {
    switch error {
    case let error as OpenError: self = error
    case let error as IOError:
      self.init(Kind(errno: error.errnoCode), String(cString: strerror(error.errnoCode)), cause: error)
    case ChannelError.connectTimeout: self.init(.timedOut, "no answer in time", cause: error)
    default: self.init(.failed, "\(error)", cause: error)
    }
  }
}

extension OpenError.Kind {
  /// The kind that an `errno` of `connect(2)` stands for.
  public init(errno code: CInt) {
    switch code {
    case ECONNREFUSED, ECONNRESET: self = .refused
    case EHOSTUNREACH, EHOSTDOWN: self = .hostUnreachable
    case ENETUNREACH, ENETDOWN, EADDRNOTAVAIL, EAFNOSUPPORT: self = .networkUnreachable
    case ETIMEDOUT: self = .timedOut
    case EPERM, EACCES: self = .notAllowed
    case EMFILE, ENFILE, ENOBUFS, ENOMEM, EAGAIN: self = .unavailable
    default: self = .failed
    }
  }
}

extension OpenError: CustomStringConvertible {
  /// The message alone; the cause is for logs that want more.
  public var description: String { message }
}
