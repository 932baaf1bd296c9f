import NIOCore

/// How the target's stream is replaced by another one when it breaks before it said anything.
///
/// What the client sends is kept as long as nothing came from the target. When the target's stream breaks,
/// its place is taken by an end without a stream, which is never writable, so that the client is not read
/// meanwhile. Once another stream is open, it gets what was kept, and the client's end of stream if that has
/// come; then bytes flow as before. States are drawn at `Duplex`.
///
/// The first byte of the target ends all that: what was kept is freed, and no batch is looked at any more.
extension Duplex {
  /// An end is about to pass on what it read.
  func willPass(_ bytes: ByteBuffer, _ direction: Direction) {
    guard let replacement, bytes.readableBytes > 0 else { return }
    if direction == .down || !replacement.keep(bytes) { settle() }
  }

  /// An end is about to pass on an end of stream. One of the target is an answer.
  func willPassEnd(_ direction: Direction) {
    if direction == .down { settle() }
  }

  /// Opens another stream in place of the target's, which broke.
  ///
  /// - Returns: false where it cannot be replaced.
  func replaceTarget(after error: any Error) -> Bool {
    guard let replacement else { return false }
    let broken = target
    // First, for to ask for another stream may already close this one.
    broken.detach()
    guard let opened = replacement.reopen() else { return false }
    broken.abort(reason: "replaced: \(error)")
    takePlaceOfTarget(DuplexEnd(reads: .down, counting: counters.down, memory: memory))
    opened.assumeIsolated().whenComplete { self.reopened($0, replacement, after: error) }
    return true
  }

  private func reopened(
    _ result: Result<any Channel, any Error>,
    _ replacement: Replacement,
    after error: any Error
  ) {
    // The session may have ended meanwhile, and needs no stream then.
    guard self.replacement === replacement, case .success(let channel) = result else {
      if case .success(let late) = result { late.close(promise: nil) }
      return end(.failed(.down, error))
    }
    do {
      try channel.pipeline.syncOperations.addHandler(target)
    } catch {
      channel.close(promise: nil)
      return end(.failed(.down, error))
    }
    let batches = replacement.opened(channel, after: error)
    if replacement.isSpent { settle() }
    client.sendAgain(batches)
    client.readIfWanted()
    target.readIfWanted()
  }

  private func takePlaceOfTarget(_ end: DuplexEnd) {
    target = end
    client.attach(to: self, partner: end)
    end.attach(to: self, partner: client)
    end.isWatched = true
  }

  /// From here on the target's stream is the only one.
  func settle() {
    guard replacement != nil else { return }
    replacement = nil
    for end in [client, target] { end.isWatched = false }
  }
}

/// How a session's stream to its target can be opened again.
struct ReplacementPlan {
  /// Most bytes of the client that are kept for it.
  var limit: Int
  /// Opens another stream, on the loop of the one that broke; nil where there is no other way.
  var reopen: (_ broken: any Channel) -> EventLoopFuture<any Channel>?
  /// Told on the event loop when the other stream has taken the place of the one that broke by this error.
  var onReplace: (any Error) -> Void
}

/// What is needed to replace the target's stream, as long as it can be replaced.
final class Replacement {
  /// A session whose streams go on breaking is not worth more.
  private static let mostAttempts = 2
  private static let fewBytes = 1024

  private let plan: ReplacementPlan
  /// The target's stream, or the one that broke.
  private var channel: any Channel
  private var isReopening = false
  private var attempts = 0
  private var batches: [ByteBuffer] = []
  private var count = 0

  init(_ plan: ReplacementPlan, of channel: any Channel) {
    self.plan = plan
    self.channel = channel
  }

  /// Whether there is to be no other stream after this one.
  var isSpent: Bool { attempts == Self.mostAttempts || isFull }

  private var isFull: Bool { count > plan.limit }

  /// Keeps what the client sent.
  ///
  /// What comes while no stream is there was not sent anywhere. It is kept whatever its size: at most the
  /// batch that was asked for when the stream broke.
  /// - Returns: false where that is too much, so that nothing is kept any more.
  func keep(_ bytes: ByteBuffer) -> Bool {
    count += bytes.readableBytes
    guard isReopening || !isFull else { return false }
    // A few bytes are copied, for they would hold the buffer that they lie in.
    if bytes.readableBytes < max(Self.fewBytes, bytes.storageCapacity / 4) {
      if batches.isEmpty { batches.append(ByteBuffer()) }
      batches[batches.count - 1].writeImmutableBuffer(bytes)
    } else {
      batches.append(bytes)
    }
    return true
  }

  func reopen() -> EventLoopFuture<any Channel>? {
    isReopening = true
    attempts += 1
    return plan.reopen(channel)
  }

  /// Another stream is there.
  ///
  /// - Returns: what it has to be sent.
  func opened(_ channel: any Channel, after error: any Error) -> [ByteBuffer] {
    self.channel = channel
    isReopening = false
    plan.onReplace(error)
    return batches
  }
}
