import NIOCore

/// What one end of a path counted since the path began.
///
/// A kernel tells the sender of TCP what was lost; with datagrams only both ends together know, by comparing what
/// one sent with what the other received.
public struct PathCounts: Sendable, Equatable {
  /// Packets with payload that this end sent, repeated ones included.
  public var sent: UInt64
  /// Packets that this end received; nil where it cannot tell.
  public var received: UInt64?
  /// How many of `sent` this end knows to be lost; nil where it cannot tell. It may fall, where a packet that
  /// was taken for lost turns out to have arrived.
  public var lost: UInt64?
  /// As this end sees it now; nil before the first.
  public var roundTrip: RoundTrip?

  /// The time from a packet to its acknowledgement (RFC 9002 §5), in nanoseconds.
  public struct RoundTrip: Sendable, Equatable {
    /// Smoothed.
    public var smoothed: UInt64
    /// Mean deviation.
    public var variation: UInt64

    /// A round trip from its parts.
    public init(smoothed: UInt64, variation: UInt64) {
      self.smoothed = smoothed
      self.variation = variation
    }
  }

  /// Counts made by hand.
  public init(sent: UInt64, received: UInt64? = nil, lost: UInt64? = nil, roundTrip: RoundTrip? = nil) {
    self.sent = sent
    self.received = received
    self.lost = lost
    self.roundTrip = roundTrip
  }

  /// Nothing sent yet.
  public static let zero = PathCounts(sent: 0)
}

/// One end of one network path: a TCP connection, or a QUIC connection with all its streams.
///
/// Lives on one event loop and is asked there.
public protocol PathSource: AnyObject {
  /// What this end counted; nil where that cannot be told any more.
  var counts: PathCounts? { get }
  /// Whether the path has ended, so that `counts` changes no more. Default: false.
  var isOver: Bool { get }
}

extension PathSource {
  /// Says no.
  public var isOver: Bool { false }
}

/// A stream channel that knows the path below it. NIO's TCP sockets need not be one: their kernel is asked.
public protocol PathMeasured: Channel {
  /// The path, shared by all streams that it carries; asked on the channel's event loop.
  var path: any PathSource { get }
}
