/// What was seen of each member since the sample before: the only thing that a choice rests on, beside the config.
///
/// Written to a trace one a line, and read back by `magicalane explain`.
public struct PathSample: Sendable, Codable, Equatable {
  /// Seconds since 1970.
  public var time: Double
  /// In the order of `members:`.
  public var legs: [LegSample]

  /// A sample from its parts.
  public init(time: Double, legs: [LegSample]) {
    self.time = time
    self.legs = legs
  }
}

/// What was seen of one member since the sample before.
public struct LegSample: Sendable, Codable, Equatable {
  /// Packets whose fate is known.
  public struct Packets: Sendable, Codable, Equatable {
    /// How many were sent.
    public var sent: UInt64
    /// How many of those were lost.
    public var lost: UInt64

    /// Packets by number.
    public init(sent: UInt64, lost: UInt64) {
      self.sent = sent
      self.lost = lost
    }
  }

  /// Towards the server; nil where nothing was learned.
  public var up: Packets?
  /// From the server; nil where nothing was learned.
  public var down: Packets?
  /// Smoothed round trip in seconds; nil where none was measured.
  public var roundTrip: Double?
  /// Its mean deviation in seconds.
  public var variation: Double?
  /// How long each stream took that was opened, from the request to the server's first answer, in seconds.
  public var opens: [Double]
  /// Why each attempt failed that failed for this member's fault. A stall of the control stream is one.
  public var failures: [String]
  /// Whether anything was heard of the server.
  public var isHeard: Bool

  /// A sample of which nothing is known but what is given.
  public init(
    up: Packets? = nil,
    down: Packets? = nil,
    roundTrip: Double? = nil,
    variation: Double? = nil,
    opens: [Double] = [],
    failures: [String] = [],
    isHeard: Bool = false
  ) {
    self.up = up
    self.down = down
    self.roundTrip = roundTrip
    self.variation = variation
    self.opens = opens
    self.failures = failures
    self.isHeard = isHeard
  }
}
