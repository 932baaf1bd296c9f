import NIOCore

/// `resolver:`: for how long names are remembered.
public struct ResolverSettings: Sendable, Equatable {
  /// For how long the addresses of a name are used again; zero asks for them each time.
  ///
  /// The system's resolver does not say how long an answer holds. The default is below the time to live of
  /// nearly every name, so that a name that moves is found as soon as with any resolver that caches.
  public var cache = TimeAmount.seconds(10)
  /// The same for a failure: long enough for a client that tries again at once, or over many connections, not
  /// to hold the resolver's threads, and too short for anybody to notice that the name works again.
  public var cacheFailures = TimeAmount.seconds(1)

  /// The defaults.
  public init() {}
}

/// What the system's resolver said of names, each for its time and no longer.
///
/// A plain value: times come in. It holds a bounded number of names; when it is full, those whose time is over
/// go, then the quarter that was not asked for the longest.
struct NameCache {
  /// One look-up's result. Whoever uses it can tell it from a later one of the same name.
  struct Answer {
    var result: Result<[IPAddress], OpenError>
    /// Counts the look-ups.
    var number: UInt64
  }

  private struct Entry {
    var answer: Answer
    var expires: NIODeadline
    var lastUse: UInt64
  }

  /// An answer with more addresses is not kept, so that nobody can fill the memory with names of their own.
  static let mostAddresses = 64

  /// Holds for answers that come from now on.
  var settings: ResolverSettings
  private let capacity: Int
  private var entries: [String: Entry] = [:]
  private var uses: UInt64 = 0

  /// - Parameter capacity: most names.
  init(_ settings: ResolverSettings, capacity: Int = 4096) {
    self.settings = settings
    self.capacity = capacity
  }

  /// How many names are held, those whose time is over too.
  var count: Int { entries.count }

  /// What is known of the name at this time.
  mutating func answer(to name: String, at now: NIODeadline) -> Answer? {
    guard let found = entries.index(forKey: name) else { return nil }
    guard now < entries.values[found].expires else {
      entries.remove(at: found)
      return nil
    }
    uses += 1
    entries.values[found].lastUse = uses
    return entries.values[found].answer
  }

  /// Keeps what was found out at this time.
  mutating func keep(_ answer: Answer, of name: String, at now: NIODeadline) {
    let time: TimeAmount
    switch answer.result {
    case .success(let addresses): time = addresses.count > Self.mostAddresses ? .zero : settings.cache
    case .failure: time = settings.cacheFailures
    }
    guard time > .zero else { return drop(name) }
    if entries[name] == nil, entries.count >= capacity { makeRoom(at: now) }
    uses += 1
    entries[name] = Entry(answer: answer, expires: now + time, lastUse: uses)
  }

  /// Forgets an answer that turned out to be of no use; a newer one of the name stays.
  mutating func drop(_ name: String, number: UInt64) {
    if entries[name]?.answer.number == number { drop(name) }
  }

  /// Forgets everything.
  mutating func forgetAll() {
    entries = [:]
  }

  private mutating func drop(_ name: String) {
    entries[name] = nil
  }

  private mutating func makeRoom(at now: NIODeadline) {
    entries = entries.filter { now < $0.value.expires }
    guard entries.count >= capacity else { return }
    let uses = entries.values.map(\.lastUse).sorted()
    let kept = uses[uses.count - capacity * 3 / 4]
    entries = entries.filter { $0.value.lastUse >= kept }
  }
}
