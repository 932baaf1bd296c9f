import Foundation
import NIOConcurrencyHelpers
import NIOCore

/// A transport that holds other transports, its members, and chooses one for each session.
public protocol ChoosingTransport: Transport {
  /// Most bytes of a client that are kept to be sent again, as long as no byte came back; 0 for none.
  var replayLimit: Int { get }

  /// Opens a stream for a session whose own broke before a byte of the target came back.
  ///
  /// Called on `loop`, from within the broken channel's pipeline, which is aborted after this call. A session asks
  /// at most twice.
  /// - Parameters:
  ///   - request: as it came to `connect`, with a new deadline.
  ///   - broken: the channel that `connect` yielded, or the `reopen` before.
  /// - Returns: nil where no member other than the broken one is left to try.
  func reopen(
    _ request: ConnectRequest,
    insteadOf broken: any Channel,
    on loop: any EventLoop
  ) -> EventLoopFuture<any Channel>?

  /// What is known of each member, in the order of the config.
  var paths: [PathStatus] { get }

  /// The latest choices, newest first.
  func decisions(limit: Int) -> [Decision]
}

/// Which member of a choosing transport carries a session: the transport writes it, who looks at sessions reads
/// it.
///
/// Safe from any thread. The session makes it and hands it over in `ConnectRequest.carrier`.
public final class SessionCarrier: Sendable {
  private let name = NIOLockedValueBox<String?>(nil)

  /// Of no member yet.
  public init() {}

  /// The member's name; nil until one was chosen. Set it when a stream is yielded, by `connect` or by `reopen`.
  public var member: String? {
    get { name.withLockedValue { $0 } }
    set { name.withLockedValue { $0 = newValue } }
  }
}

/// A member of a choosing transport, and what is known of the path to its server.
public struct PathStatus: Sendable, Codable {
  /// What the path is taken for.
  public enum Condition: String, Sendable, Codable, CaseIterable {
    /// Too little is known.
    case unknown
    /// Little is lost.
    case low
    /// Much is lost.
    case high
    /// The server cannot be reached this way.
    case down
  }

  /// Whether the far end tells what it saw.
  public enum Reports: String, Sendable, Codable, CaseIterable {
    /// Not known yet, or no stream to ask on.
    case none
    /// It does.
    case reporting
    /// It knows nothing of reports.
    case lacking
  }

  /// One direction's loss.
  public struct Loss: Sendable, Codable, Equatable {
    /// Lost packets by sent packets, 0 to 1.
    public var ratio: Double
    /// How many packets it rests on.
    public var packets: UInt64
    /// Seconds since the latest of them.
    public var age: Double

    /// A loss from its parts.
    public init(ratio: Double, packets: UInt64, age: Double) {
      self.ratio = ratio
      self.packets = packets
      self.age = age
    }
  }

  private enum CodingKeys: String, CodingKey {
    case member, type, condition, up, down, variation, opened, failed, sessions, reports
    case isChosen = "chosen"
    case roundTrip = "round_trip"
    case openTime = "open_time"
    case lastFailure = "last_failure"
    case probeBytes = "probe_bytes"
  }

  /// The member's name.
  public var member: String
  /// The member's type.
  public var type: String
  /// Whether new sessions take it.
  public var isChosen: Bool
  /// What it is taken for.
  public var condition: Condition
  /// Towards the server; nil where nothing is known.
  public var up: Loss?
  /// From the server.
  public var down: Loss?
  /// Smoothed round trip in seconds.
  public var roundTrip: Double?
  /// Its mean deviation, in seconds.
  public var variation: Double?
  /// From a request to its answer, smoothed, in seconds.
  public var openTime: Double?
  /// Streams opened.
  public var opened: UInt64
  /// Attempts that failed for the member's fault.
  public var failed: UInt64
  /// The last such failure.
  public var lastFailure: String?
  /// Live sessions that it carries.
  public var sessions: Int
  /// Whether the far end tells what it saw.
  public var reports: Reports
  /// Bytes that measuring has cost, both ways, estimated.
  public var probeBytes: UInt64

  /// A status of which nothing is known.
  public init(member: String, type: String) {
    self.member = member
    self.type = type
    isChosen = false
    condition = .unknown
    opened = 0
    failed = 0
    sessions = 0
    reports = .none
    probeBytes = 0
  }
}

/// One choice of a choosing transport: what it rests on, and why it is not the other way.
public struct Decision: Sendable, Codable, Equatable {
  /// One member as it was seen.
  public struct Input: Sendable, Codable, Equatable {
    private enum CodingKeys: String, CodingKey {
      case member, condition, up, down, failures
      case roundTrip = "round_trip"
      case openTime = "open_time"
    }

    /// The member's name.
    public var member: String
    /// What it was taken for.
    public var condition: PathStatus.Condition
    /// Towards the server.
    public var up: PathStatus.Loss?
    /// From the server.
    public var down: PathStatus.Loss?
    /// Smoothed, in seconds.
    public var roundTrip: Double?
    /// Smoothed, in seconds.
    public var openTime: Double?
    /// Failures in a row.
    public var failures: Int

    /// A member of which only the name is known.
    public init(member: String, condition: PathStatus.Condition = .unknown, failures: Int = 0) {
      self.member = member
      self.condition = condition
      self.failures = failures
    }
  }

  private enum CodingKeys: String, CodingKey {
    case id, time, chosen, previous, diagnosis, reason, alternative, inputs, thresholds
    case whyNot = "why_not"
    case switchesInHour = "switches_in_hour"
  }

  /// Counts up from 1 while the transport runs.
  public var id: UInt64
  /// When.
  public var time: Date
  /// What new sessions take from now on.
  public var chosen: String
  /// What they took before; nil for the first choice.
  public var previous: String?
  /// In a word or two: `clean`, `lossy path`, `UDP policed or blocked`, `TCP shaped`, `down`, `unknown`.
  public var diagnosis: String
  /// Why `chosen`, in one sentence with its figures.
  public var reason: String
  /// The member that was not chosen.
  public var alternative: String?
  /// Why not, in one sentence.
  public var whyNot: String?
  /// The members as they were seen, in the order of the config.
  public var inputs: [Input]
  /// The thresholds in force, by the names of their config keys; durations in seconds, ratios from 0 to 1.
  public var thresholds: [String: Double]
  /// Switches in the hour before, this one included.
  public var switchesInHour: Int

  /// A decision from its parts.
  public init(
    id: UInt64,
    time: Date,
    chosen: String,
    previous: String?,
    diagnosis: String,
    reason: String,
    alternative: String?,
    whyNot: String?,
    inputs: [Input],
    thresholds: [String: Double],
    switchesInHour: Int
  ) {
    self.id = id
    self.time = time
    self.chosen = chosen
    self.previous = previous
    self.diagnosis = diagnosis
    self.reason = reason
    self.alternative = alternative
    self.whyNot = whyNot
    self.inputs = inputs
    self.thresholds = thresholds
    self.switchesInHour = switchesInHour
  }
}
