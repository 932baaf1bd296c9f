import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// What holds of a session whose target's stream breaks while another one can be had.
@Suite struct ReplacementTests {
  private struct Broken: Error {}
  private struct BrokenAgain: Error {}
  private struct NotReopened: Error {}

  private final class Joined: Unprintable {
    let loop = EmbeddedEventLoop()
    let client: RecordedStream
    let target: RecordedStream
    let counters = Duplex.Counters()
    var duplex: Duplex?
    var outcomes: [Duplex.Outcome] = []
    /// The channels instead of which another one was asked for.
    var broken: [any Channel] = []
    var replaced: [any Error] = []
    /// Answers to come; none is nil, which says that there is no other way.
    var hasOtherWay = true
    private var waiting: [EventLoopPromise<any Channel>] = []

    init(limit: Int = 64, idleTimeout: TimeAmount = .minutes(5)) throws {
      client = try RecordedStream(on: loop)
      target = try RecordedStream(on: loop)
      let plan = ReplacementPlan(limit: limit) { [unowned self] broken in
        self.broken.append(broken)
        guard hasOtherWay else { return nil }
        waiting.append(loop.makePromise())
        return waiting.last?.futureResult
      } onReplace: { [unowned self] in
        replaced.append($0)
      }
      duplex = try Duplex.join(
        client: client.channel,
        target: target.channel,
        idleTimeout: idleTimeout,
        counters: counters,
        replacement: plan
      ) {
        [unowned self] in outcomes.append($0)
      }
    }

    /// Another stream is open.
    @discardableResult
    func reopen() throws -> RecordedStream {
      let stream = try RecordedStream(on: loop)
      waiting.removeFirst().succeed(stream.channel)
      return stream
    }

    /// Puts a handler below the duplex.
    func addHandlerToTarget(_ handler: any ChannelHandler) throws {
      let end = try #require(duplex?.target)
      try target.channel.pipeline.syncOperations.addHandler(handler, position: .before(end))
    }

    func failToReopen() { waiting.removeFirst().fail(NotReopened()) }

    var failure: (any Error)? {
      if case .failed(.down, let error)? = outcomes.first { error } else { nil }
    }
  }

  // MARK: Sent again

  @Test func `what the client sent goes to another stream, once and in order`() throws {
    let joined = try Joined()
    joined.client.receive("first ")
    joined.client.receive("second ")
    #expect(joined.target.takeOutbound() == [.write("first "), .flush, .write("second "), .flush])
    joined.target.receive(Broken())
    #expect(joined.target.takeOutbound() == [.abort])
    #expect(joined.broken.first === joined.target.channel)

    let other = try joined.reopen()
    joined.client.receive("third")
    #expect(other.takeOutbound().filter { $0 != .flush } == [.write("first second "), .write("third")])
    #expect(joined.counters.up.value == 18)
    #expect(joined.client.takeOutbound() == [])
    #expect(joined.replaced.count == 1 && joined.outcomes.isEmpty)
  }

  @Test func `large batches are kept as they are, and a few bytes do not hold a large buffer`() throws {
    let joined = try Joined(limit: 1 << 20)
    let batch = String(repeating: "x", count: 4096)
    joined.client.receive(batch)
    joined.client.receive("a few")
    joined.client.receive(batch)
    var roomy = ByteBuffer()
    roomy.reserveCapacity(1 << 20)
    roomy.writeString(batch)
    joined.client.channel.pipeline.fireChannelRead(roomy)
    joined.target.receive(Broken())
    let other = try joined.reopen()
    let sent = other.takeOutbound().compactMap { if case .write(let text) = $0 { text } else { nil } }
    #expect(sent == [batch + "a few", batch + batch])
  }

  @Test func `bytes flow both ways over the other stream, and both ends end it well`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    joined.target.receive(Broken())
    let other = try joined.reopen()
    other.receive("answer")
    #expect(joined.client.takeOutbound() == [.write("answer"), .flush])
    #expect(joined.counters.down.value == 6)
    joined.client.receiveEndOfStream()
    other.receiveEndOfStream()
    guard case .finished? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
    #expect(other.takeOutbound() == [.write("question"), .flush, .closeOutput, .close])
    #expect(joined.client.takeOutbound() == [.write(""), .flush, .closeOutput, .close])
  }

  @Test func `a session in which nobody said anything is opened again too`() throws {
    let joined = try Joined()
    joined.target.becomeInactive()
    let other = try joined.reopen()
    joined.client.receive("now")
    #expect(other.takeOutbound() == [.write("now"), .flush])
    #expect(joined.replaced.first is Duplex.UncleanEnd)
  }

  @Test func `a client that ended its stream ended it on the other stream too`() throws {
    let joined = try Joined()
    joined.client.receive("all")
    joined.client.receiveEndOfStream()
    #expect(joined.target.takeOutbound() == [.write("all"), .flush, .closeOutput])
    joined.target.receive(Broken())
    let other = try joined.reopen()
    #expect(other.takeOutbound() == [.write("all"), .flush, .closeOutput])
    other.receive("answer")
    other.receiveEndOfStream()
    guard case .finished? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
  }

  @Test func `what comes while the other stream opens follows, an end of stream too`() throws {
    let joined = try Joined()
    joined.client.receive("before, ")
    joined.target.receive(Broken())
    joined.client.receive("meanwhile")
    joined.client.receiveEndOfStream()
    #expect(joined.outcomes.isEmpty)
    let other = try joined.reopen()
    let sent = other.takeOutbound()
    #expect(sent == [.write("before, meanwhile"), .flush, .closeOutput])
    #expect(joined.counters.up.value == 17)
  }

  @Test func `the client is not read while the other stream opens`() throws {
    let joined = try Joined()
    joined.client.receive("a")
    joined.target.receive(Broken())
    joined.client.receive("b")
    let before = joined.client.readCount
    joined.target.setWritable(true)
    joined.client.setWritable(true)
    #expect(joined.client.readCount == before)
    let other = try joined.reopen()
    #expect(joined.client.readCount == before + 1)
    #expect(other.readCount == 1)
  }

  @Test func `a stream that breaks in the middle of a write is replaced, and nothing is sent twice`() throws {
    let joined = try Joined()
    try joined.addHandlerToTarget(BreaksOnFlush())
    joined.client.receive("question")
    let other = try joined.reopen()
    #expect(other.takeOutbound() == [.write("question"), .flush])
    joined.client.receive("more")
    #expect(other.takeOutbound() == [.write("more"), .flush])
  }

  @Test func `what becomes of the broken stream later does not matter`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    joined.client.receiveEndOfStream()
    joined.target.receive(Broken())
    let other = try joined.reopen()
    joined.target.receive("too late")
    joined.target.receive(BrokenAgain())
    joined.target.receiveEndOfStream()
    joined.target.becomeInactive()
    #expect(joined.outcomes.isEmpty && joined.client.takeOutbound() == [])
    other.receive("answer")
    #expect(joined.client.takeOutbound() == [.write("answer"), .flush])
  }

  /// A QUIC stream's end of stream is out when it was acknowledged, or never.
  @Test func `an end of stream that the broken stream never sent fails nothing`() throws {
    let joined = try Joined()
    let held = HoldsEnds()
    try joined.addHandlerToTarget(held)
    joined.client.receiveEndOfStream()
    joined.target.receive(Broken())
    let other = try joined.reopen()
    held.promise?.fail(BrokenAgain())
    #expect(joined.outcomes.isEmpty && joined.broken.count == 1)
    #expect(other.takeOutbound() == [.closeOutput])
  }

  // MARK: Not sent again

  @Test func `once a byte came back, a break ends the session`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    // Not even a whole batch yet.
    joined.target.channel.pipeline.fireChannelRead(ByteBuffer(string: "a"))
    joined.target.receive(Broken())
    #expect(joined.failure is Broken && joined.broken.isEmpty)
    #expect(joined.client.takeOutbound().last == .abort)
  }

  @Test func `an empty batch is no answer`() throws {
    let joined = try Joined()
    joined.target.receive("")
    joined.target.receive(Broken())
    #expect(joined.broken.count == 1 && joined.outcomes.isEmpty)
  }

  @Test func `the first byte frees what was kept and the way to open it again`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    weak let replacement = joined.duplex?.replacement
    #expect(replacement != nil)
    joined.target.receive("a")
    #expect(replacement == nil)
    #expect(joined.duplex?.client.isWatched == false && joined.duplex?.target.isWatched == false)
  }

  @Test func `a target that ended its stream has answered`() throws {
    let joined = try Joined()
    joined.target.receiveEndOfStream()
    joined.target.receive(Broken())
    #expect(joined.failure is Broken && joined.broken.isEmpty)
  }

  @Test(arguments: [8, 9]) func `as much as the limit is kept, and no more`(count: Int) throws {
    let joined = try Joined(limit: 8)
    joined.client.receive("1234")
    joined.client.receive(String(repeating: "x", count: count - 4))
    joined.target.receive(Broken())
    #expect(joined.broken.count == (count > 8 ? 0 : 1))
    #expect(joined.failure is Broken == (count > 8))
  }

  @Test func `more than the limit while the other stream opens is sent, but not kept`() throws {
    let joined = try Joined(limit: 8)
    joined.client.receive("1234")
    joined.target.receive(Broken())
    joined.client.receive("56789")
    let other = try joined.reopen()
    #expect(other.takeOutbound() == [.write("123456789"), .flush])
    other.receive(BrokenAgain())
    #expect(joined.failure is BrokenAgain && joined.broken.count == 1)
  }

  @Test func `where there is no other way the session ends by its error`() throws {
    let joined = try Joined()
    joined.hasOtherWay = false
    joined.client.receive("question")
    _ = joined.target.takeOutbound()
    joined.target.receive(Broken())
    #expect(joined.failure is Broken && joined.outcomes.count == 1)
    #expect(joined.client.takeOutbound() == [.abort])
    #expect(joined.target.takeOutbound() == [.abort])
  }

  @Test func `where no other stream can be opened the session ends by its first error`() throws {
    let joined = try Joined()
    joined.target.receive(Broken())
    joined.failToReopen()
    #expect(joined.failure is Broken && joined.outcomes.count == 1)
    #expect(joined.client.takeOutbound() == [.abort])
    #expect(joined.replaced.isEmpty)
  }

  @Test func `a session is opened again twice, and then no more`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    joined.target.receive(Broken())
    let second = try joined.reopen()
    second.receive(Broken())
    #expect(second.takeOutbound() == [.write("question"), .flush, .abort])
    #expect(joined.broken.last === second.channel)
    let third = try joined.reopen()
    #expect(third.takeOutbound() == [.write("question"), .flush])
    #expect(joined.outcomes.isEmpty && joined.counters.up.value == 8)
    third.receive(BrokenAgain())
    #expect(joined.failure is BrokenAgain && joined.broken.count == 2 && joined.replaced.count == 2)
  }

  // MARK: Ended meanwhile

  @Test func `a client that breaks off while the other stream opens ends the session`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    joined.target.receive(Broken())
    joined.client.becomeInactive()
    guard case .failed(.up, _)? = joined.outcomes.first else {
      return #expect(Bool(false), "\(joined.outcomes)")
    }
    let late = try joined.reopen()
    #expect(late.takeOutbound() == [.close])
    #expect(joined.outcomes.count == 1 && joined.replaced.isEmpty)
  }

  @Test func `an abort while the other stream opens ends the client alone, and the late stream is closed`()
    throws
  {
    let joined = try Joined()
    joined.target.receive(Broken())
    joined.duplex?.abort(reason: "deleted")
    #expect(joined.client.takeOutbound() == [.abort])
    #expect(joined.target.takeOutbound() == [.abort])
    guard case .aborted? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
    #expect(try joined.reopen().takeOutbound() == [.close])
    #expect(joined.outcomes.count == 1)
  }

  @Test func `an opening that fails after the session ended says nothing`() throws {
    let joined = try Joined()
    joined.target.receive(Broken())
    joined.duplex?.abort(reason: "deleted")
    joined.failToReopen()
    #expect(joined.outcomes.count == 1)
  }

  @Test func `the idle time-out runs on while the other stream opens`() throws {
    let joined = try Joined(idleTimeout: .seconds(8))
    joined.target.receive(Broken())
    joined.loop.advanceTime(by: .seconds(10))
    guard case .idle? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
    #expect(try joined.reopen().isOver)
  }

  @Test func `an ended duplex leaves nothing behind, whenever it ended`() throws {
    for isOpened in [false, true] {
      let joined = try Joined()
      weak let duplex = joined.duplex
      joined.target.receive(Broken())
      if isOpened { try joined.reopen() }
      joined.duplex?.abort(reason: "deleted")
      joined.duplex = nil
      if !isOpened { try joined.reopen() }
      joined.loop.run()
      #expect(duplex == nil)
    }
  }
}

/// A stream that turns out to be broken when something is sent.
private final class BreaksOnFlush: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  struct Broken: Error {}

  func flush(context: ChannelHandlerContext) {
    context.channel.pipeline.fireErrorCaught(Broken())
    context.flush()
  }
}

/// A stream whose end of stream is on its way until the test says what became of it.
private final class HoldsEnds: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  var promise: EventLoopPromise<Void>?

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    if mode == .output { self.promise = promise } else { context.close(mode: mode, promise: promise) }
  }
}
