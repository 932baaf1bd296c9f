import NIOConcurrencyHelpers
import NIOCore

/// Sums what one end of a leg counts, over all the paths that carry the leg's streams: live ones and ended ones.
///
/// A path is a TCP connection, or a QUIC connection with all its streams. Safe from any thread; each path is
/// asked on its own event loop.
public final class PathLedger: Sendable {
  private let pages = NIOLockedValueBox<[ObjectIdentifier: NIOLoopBound<PathPage>]>([:])

  /// A ledger of no path yet.
  public init() {}

  /// Counts the path below a stream in from now on, if anything is known of it; called on the channel's loop.
  ///
  /// Once per path, however many streams it carries. A stream that is attached again changes nothing.
  public func attach(_ channel: any Channel) {
    if let channel = channel as? any PathMeasured {
      page(of: channel.eventLoop).add(channel.path)
    } else if let path = TCPPath.below(channel) {
      let page = page(of: channel.eventLoop)
      page.add(path)
      channel.closeFuture.assumeIsolated().whenComplete { _ in page.remove(path) }
    }
  }

  /// The sums as they are now, for `loop`; fails only where a loop has been shut down.
  ///
  /// Ended paths are in it with all that they counted. Of live ones a call asks a few hundred on each loop, in
  /// turns, and takes the others as they were asked last: with thousands of idle paths it costs little still.
  /// The round trip is the mean of those that sent something since they were asked before, weighted by how much.
  public func counts(on loop: any EventLoop) -> EventLoopFuture<PathCounts> {
    let pages = pages.withLockedValue { Array($0.values) }
    let sums = pages.map { page in
      page.eventLoop.inEventLoop
        ? page.eventLoop.makeSucceededFuture(page.value.read())
        : page.eventLoop.submit { page.value.read() }
    }
    return EventLoopFuture.whenAllSucceed(sums, on: loop).map { PathSum(adding: $0).counts }
  }

  private func page(of loop: any EventLoop) -> PathPage {
    pages.withLockedValue { pages in
      if let known = pages[ObjectIdentifier(loop)] { return known.value }
      let page = PathPage()
      pages[ObjectIdentifier(loop)] = NIOLoopBound(page, eventLoop: loop)
      return page
    }
  }
}

/// The paths of one event loop, and what they counted together.
///
/// The sum is kept as paths are asked, by what each counted more than before; so a call costs by the paths it
/// asks, and an ended path is forgotten without its counts.
final class PathPage {
  /// Most paths that one call asks.
  static let askedAtOnce = 256
  /// A path that sent and received more than this before it was attached is counted from now on, for its far end
  /// cannot have attached it at the very same packet. One that is younger is counted whole, at both ends.
  static let young: UInt64 = 32

  private struct Live {
    let source: any PathSource
    var last: PathCounts
  }

  private var live: [Live] = []
  private var places: [ObjectIdentifier: Int] = [:]
  private var turn = 0
  private var sum = PathSum()

  /// Live paths.
  var count: Int { live.count }

  func add(_ source: any PathSource) {
    guard places[ObjectIdentifier(source)] == nil, let counts = source.counts else { return }
    // What ended unseen must not pile up where nobody asks.
    for _ in 0..<2 { askNext() }
    places[ObjectIdentifier(source)] = live.count
    let isYoung = counts.sent &+ (counts.received ?? 0) <= PathPage.young
    var start = counts
    if isYoung { start = .zero }
    live.append(Live(source: source, last: start))
    sum.begin(counts)
    ask(live.count - 1)
  }

  /// The path has ended; it is asked for the last time.
  func remove(_ source: any PathSource) {
    guard let place = places[ObjectIdentifier(source)] else { return }
    if ask(place) { forget(place) }
  }

  /// What all counted.
  func read() -> PathSum {
    sum.beginRound()
    for _ in 0..<min(live.count, PathPage.askedAtOnce) { askNext() }
    return sum
  }

  private func askNext() {
    guard !live.isEmpty else { return }
    turn = turn < live.count ? turn : 0
    if ask(turn) { turn += 1 }
  }

  /// - Returns: false where the path was over and is gone.
  @discardableResult
  private func ask(_ place: Int) -> Bool {
    let source = live[place].source
    let isOver = source.isOver
    if let counts = source.counts {
      sum.add(counts, since: live[place].last)
      live[place].last = counts
    }
    if isOver { forget(place) }
    return !isOver
  }

  private func forget(_ place: Int) {
    places[ObjectIdentifier(live[place].source)] = nil
    live.swapAt(place, live.count - 1)
    live.removeLast()
    if place < live.count { places[ObjectIdentifier(live[place].source)] = place }
  }
}

/// Counts of many paths.
struct PathSum: Sendable {
  private var paths = 0
  private var sent: UInt64 = 0
  private var received: UInt64 = 0
  private var lost: UInt64 = 0
  /// Whether any path could not tell; the sum cannot either then.
  private var lacksReceived = false
  private var lacksLost = false
  private var roundTrip: PathCounts.RoundTrip?
  private var weight: UInt64 = 0

  init() {}

  /// The sum of the sums of all loops.
  init(adding sums: [PathSum]) {
    beginRound()
    for sum in sums {
      paths += sum.paths
      sent &+= sum.sent
      received &+= sum.received
      lost &+= sum.lost
      lacksReceived = lacksReceived || sum.lacksReceived
      lacksLost = lacksLost || sum.lacksLost
      if let seen = sum.roundTrip { take(seen, weight: sum.weight) }
    }
  }

  var counts: PathCounts {
    PathCounts(
      sent: sent,
      received: paths > 0 && !lacksReceived ? received : nil,
      lost: paths > 0 && !lacksLost ? lost : nil,
      roundTrip: roundTrip
    )
  }

  /// One more path, which counts like this.
  mutating func begin(_ counts: PathCounts) {
    paths += 1
    lacksReceived = lacksReceived || counts.received == nil
    lacksLost = lacksLost || counts.lost == nil
  }

  /// The round trips that come now are weighed against each other; those before count no more.
  mutating func beginRound() {
    weight = 0
  }

  /// What a path counted between two looks. What fell wraps around, and the sum with it: it comes out right.
  mutating func add(_ counts: PathCounts, since last: PathCounts) {
    let news = counts.sent &- last.sent
    sent &+= news
    received &+= (counts.received ?? 0) &- (last.received ?? 0)
    lost &+= (counts.lost ?? 0) &- (last.lost ?? 0)
    if let seen = counts.roundTrip { take(seen, weight: news) }
  }

  /// Of paths that sent nothing the last one is taken, for want of a better.
  private mutating func take(_ seen: PathCounts.RoundTrip, weight news: UInt64) {
    guard weight > 0, let mean = roundTrip else {
      if news > 0 || roundTrip == nil { roundTrip = seen }
      weight = news
      return
    }
    guard news > 0 else { return }
    let share = Double(news) / Double(weight + news)
    roundTrip = PathCounts.RoundTrip(
      smoothed: mean.smoothed.moved(to: seen.smoothed, by: share),
      variation: mean.variation.moved(to: seen.variation, by: share)
    )
    weight += news
  }
}

extension UInt64 {
  /// The number at that share, from 0 to 1, of the way to another.
  fileprivate func moved(to other: UInt64, by share: Double) -> UInt64 {
    // Between two numbers of nanoseconds, which are far below 2^63.
    UInt64(Double(self) + (Double(other) - Double(self)) * share)
  }
}
