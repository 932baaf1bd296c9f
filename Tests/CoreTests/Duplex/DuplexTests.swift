import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

/// The rules of the duplex. The first four are the late bugs of another one: a half-close lost, a double
/// shutdown, a flush forgotten, one side that never closes.
@Suite struct DuplexTests {
  private struct Broken: Error {}

  private final class Joined: Unprintable {
    let loop = EmbeddedEventLoop()
    let client: RecordedStream
    let target: RecordedStream
    var duplex: Duplex?
    let counters = Duplex.Counters()
    var outcomes: [Duplex.Outcome] = []

    init(idleTimeout: TimeAmount = .minutes(5)) throws {
      client = try RecordedStream(on: loop)
      target = try RecordedStream(on: loop)
      duplex = try Duplex.join(
        client: client.channel,
        target: target.channel,
        idleTimeout: idleTimeout,
        counters: counters
      ) {
        [unowned self] in outcomes.append($0)
      }
    }
  }

  @Test func `an end of stream on one side closes only the other side's output`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    #expect(joined.target.takeOutbound() == [.closeOutput])
    #expect(joined.client.takeOutbound() == [])

    joined.target.receive("late answer")
    #expect(joined.client.takeOutbound() == [.write("late answer"), .flush])
    #expect(joined.outcomes.isEmpty)
  }

  @Test func `a second end of stream event changes nothing`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.client.receiveEndOfStream()
    #expect(joined.target.takeOutbound() == [.closeOutput])
  }

  @Test func `bytes that came without a read completion are flushed before the end of stream`() throws {
    let joined = try Joined()
    joined.client.channel.pipeline.fireChannelRead(ByteBuffer(string: "last words"))
    joined.client.receiveEndOfStream()
    #expect(joined.target.takeOutbound() == [.write("last words"), .flush, .closeOutput])
  }

  @Test func `a side that never closes is ended by the idle time-out`() throws {
    let joined = try Joined(idleTimeout: .seconds(8))
    joined.client.receiveEndOfStream()
    joined.loop.advanceTime(by: .seconds(6))
    #expect(joined.outcomes.isEmpty)
    joined.loop.advanceTime(by: .seconds(4))
    guard case .idle? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
    #expect(joined.client.isOver && joined.target.isOver)
  }

  @Test func `traffic puts the idle time-out off`() throws {
    let joined = try Joined(idleTimeout: .seconds(8))
    for _ in 0..<10 {
      joined.loop.advanceTime(by: .seconds(6))
      joined.target.receive("x")
    }
    #expect(joined.outcomes.isEmpty)
  }

  @Test func `bytes cross in both directions and are counted`() throws {
    let joined = try Joined()
    joined.client.receive("question")
    joined.target.receive("an answer")
    #expect(joined.target.takeOutbound() == [.write("question"), .flush])
    #expect(joined.client.takeOutbound() == [.write("an answer"), .flush])
    #expect(joined.counters.up.value == 8)
    #expect(joined.counters.down.value == 9)
  }

  @Test func `both ends of stream end the session well and close both streams`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.target.receiveEndOfStream()
    guard case .finished? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
    #expect(joined.outcomes.count == 1)
    #expect(joined.client.takeOutbound().last == .close)
    #expect(joined.target.takeOutbound().last == .close)
  }

  @Test func `nothing more is read while the other side is not writable`() throws {
    let joined = try Joined()
    let before = joined.client.readCount
    joined.target.setWritable(false)
    joined.client.receive("a")
    #expect(joined.client.readCount == before)
    joined.target.setWritable(true)
    #expect(joined.client.readCount == before + 1)
  }

  @Test func `a full side holds up its own direction alone`() throws {
    let joined = try Joined()
    joined.target.setWritable(false)
    let before = joined.target.readCount
    joined.target.receive("still moving")
    #expect(joined.target.readCount == before + 1)
  }

  @Test func `one batch is asked for at a time`() throws {
    let joined = try Joined()
    let before = joined.client.readCount
    joined.target.setWritable(true)
    joined.target.setWritable(true)
    #expect(joined.client.readCount == before)
  }

  @Test func `nothing is read behind the end of stream`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    let before = joined.client.readCount
    joined.target.setWritable(true)
    #expect(joined.client.readCount == before)
  }

  @Test func `an error on one side reaches the other as an abort`() throws {
    let joined = try Joined()
    joined.target.receive(Broken())
    #expect(joined.client.takeOutbound() == [.abort])
    #expect(joined.target.takeOutbound() == [.abort])
    guard case .failed(.down, let error)? = joined.outcomes.first else { return #expect(Bool(false)) }
    #expect(error is Broken)
  }

  @Test func `a stream that vanishes before its end is an error for the other`() throws {
    let joined = try Joined()
    joined.client.receive("half a request")
    joined.client.becomeInactive()
    #expect(joined.target.takeOutbound().last == .abort)
    guard case .failed(.up, let error)? = joined.outcomes.first else { return #expect(Bool(false)) }
    #expect(error is Duplex.UncleanEnd)
  }

  /// NIO closes a socket whose output is closed when its peer's end of stream comes, and says no more.
  @Test func `a stream that closes without an error behind its closed output has reached its end`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.target.becomeInactive()
    #expect(joined.client.takeOutbound() == [.write(""), .flush, .closeOutput, .close])
    guard case .finished? = joined.outcomes.first else { return #expect(Bool(false), "\(joined.outcomes)") }
  }

  @Test func `an error after both ends were reached is no error`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.target.receiveEndOfStream()
    joined.client.receive(Broken())
    joined.client.becomeInactive()
    #expect(joined.outcomes.count == 1)
    #expect(!joined.target.takeOutbound().contains(.abort))
  }

  @Test func `the second close waits until everything before it was written`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.client.holdWrites()
    joined.target.receive("the whole answer")
    joined.target.receiveEndOfStream()
    #expect(!joined.client.takeOutbound().contains(.closeOutput))
    #expect(joined.outcomes.isEmpty)

    joined.client.releaseWrites()
    #expect(joined.client.takeOutbound() == [.closeOutput, .close])
    #expect(joined.outcomes.count == 1)
  }

  @Test func `a stream that breaks while its last bytes are written fails the session`() throws {
    let joined = try Joined()
    joined.client.receiveEndOfStream()
    joined.client.holdWrites()
    joined.target.receiveEndOfStream()
    joined.client.becomeInactive()
    guard case .failed(.up, _)? = joined.outcomes.first else {
      return #expect(Bool(false), "\(joined.outcomes)")
    }
    #expect(joined.target.takeOutbound().contains(.abort))
  }

  @Test func `an abort from outside ends both sides as errors, once`() throws {
    let joined = try Joined()
    joined.duplex?.abort(reason: "deleted")
    joined.duplex?.abort(reason: "deleted")
    #expect(joined.client.takeOutbound() == [.abort])
    #expect(joined.target.takeOutbound() == [.abort])
    #expect(joined.outcomes.count == 1)
  }

  @Test func `a stream that knows no abort is closed all the same`() throws {
    let joined = try Joined()
    joined.client.ignoreAborts()
    joined.duplex?.abort(reason: "deleted")
    #expect(joined.client.takeOutbound() == [.close])
  }

  @Test func `an ended duplex leaves nothing behind`() throws {
    let joined = try Joined()
    weak let duplex = joined.duplex
    joined.duplex?.abort(reason: "deleted")
    joined.duplex = nil
    joined.loop.run()
    #expect(duplex == nil)
  }
}
