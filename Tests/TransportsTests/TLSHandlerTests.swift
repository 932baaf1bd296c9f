import MagicalaneCore
import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneTransports

private func pattern(_ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
}

@Suite("TLS streams")
struct TLSStreamTests {
  let credentials: TLSTestCredentials

  init() throws {
    credentials = try TLSTestCredentials()
  }

  private func openPair(clientReads: Bool = true, serverReads: Bool = true) throws -> TLSPair {
    let pair = try TLSPair(credentials, clientReads: clientReads, serverReads: serverReads)
    try pair.pump()
    try pair.client.handshake.now()
    try pair.server.handshake.now()
    return pair
  }

  @Test("bytes go both ways, however the wire cuts them", arguments: [1, 7, 1000, Int.max])
  func bothWays(chunk: Int) throws {
    let pair = try TLSPair(credentials)
    try pair.pump(chunk: chunk)
    let up = pattern(3000)
    let down = pattern(20_000)
    pair.client.write(up)
    pair.server.write(down)
    try pair.pump(chunk: chunk)
    #expect(pair.server.recorder.bytes == up)
    #expect(pair.client.recorder.bytes == down)
    #expect(pair.client.recorder.errors.isEmpty && pair.server.recorder.errors.isEmpty)
  }

  @Test("many megabytes arrive unchanged")
  func large() throws {
    let pair = try openPair()
    let bytes = pattern(5 << 20)
    let written = pair.client.write(bytes)
    try pair.pump()
    try written.now()
    #expect(pair.server.recorder.bytes == bytes)
  }

  @Test("a flush of many small writes costs few records, and all promises are kept")
  func smallWrites() throws {
    let pair = try openPair()
    let before = pair.client.sentBytes
    let promises = (0..<2000).map { pair.client.write([UInt8(truncatingIfNeeded: $0)], flush: false) }
    pair.client.channel.flush()
    try pair.pump()
    for promise in promises { try promise.now() }
    #expect(pair.server.recorder.bytes == (0..<2000).map { UInt8(truncatingIfNeeded: $0) })
    #expect(pair.client.sentBytes - before == 2000 + 22)
  }

  @Test(
    "small and large writes of one flush keep their order",
    arguments: [[1, 16384, 1], [5, 40_000, 0, 16383, 2]]
  )
  func mixedWrites(sizes: [Int]) throws {
    let pair = try openPair()
    var expected: [UInt8] = []
    for (index, size) in sizes.enumerated() {
      let bytes = [UInt8](repeating: UInt8(index + 1), count: size)
      expected += bytes
      pair.client.write(bytes, flush: false)
    }
    pair.client.channel.flush()
    try pair.pump()
    #expect(pair.server.recorder.bytes == expected)
  }

  @Test("what is written before the handshake follows it, and so does an end of stream")
  func earlyWrites() throws {
    let pair = try TLSPair(credentials)
    let written = pair.client.write([1, 2, 3])
    let ended = pair.client.endOutput()
    try pair.pump()
    try written.now()
    try ended.now()
    #expect(pair.server.recorder.bytes == [1, 2, 3])
    #expect(pair.server.recorder.happenings.last == .inputClosed)
  }

  @Test("an end of stream closes one direction; the other goes on until it ends too")
  func halfClose() throws {
    for clientFirst in [true, false] {
      let pair = try openPair()
      let (first, second) = clientFirst ? (pair.client, pair.server) : (pair.server, pair.client)
      first.write([1])
      try first.endOutputAndPump(pair)
      #expect(second.recorder.happenings == [.bytes(1), .inputClosed])
      #expect(first.channel.isActive && second.channel.isActive)
      let more = pattern(70_000)
      second.write(more)
      try pair.pump()
      #expect(first.recorder.bytes == more)
      try second.endOutputAndPump(pair)
      #expect(first.recorder.happenings.suffix(2) == [.inputClosed, .inactive])
      #expect(second.recorder.happenings.suffix(2) == [.outputClosed, .inactive])
      #expect(first.recorder.errors.isEmpty && second.recorder.errors.isEmpty)
    }
  }

  @Test("nothing can be written behind an end of stream")
  func writeAfterEnd() throws {
    let pair = try openPair()
    try pair.client.endOutputAndPump(pair)
    let late = pair.client.write([1])
    #expect(throws: ChannelError.outputClosed) { try late.now() }
  }

  @Test("a full close is a clean end to the peer")
  func fullClose() throws {
    let pair = try openPair()
    pair.client.channel.close(promise: nil)
    try pair.pump()
    pair.server.endSocketInput()
    #expect(pair.server.recorder.happenings == [.inputClosed])
  }

  @Test("a socket that ends without close_notify is an error and no end of stream")
  func truncation() throws {
    for finOnly in [true, false] {
      let pair = try openPair()
      pair.client.write([1, 2])
      try pair.pump()
      if finOnly { pair.server.endSocketInput() } else { pair.server.channel.close(promise: nil) }
      if finOnly {
        #expect(pair.server.recorder.happenings == [.bytes(2), .error("truncated"), .inactive])
      } else {
        #expect(pair.server.recorder.happenings == [.bytes(2), .inactive])
      }
    }
  }

  @Test("a record that is cut off by the end of the socket is a truncation")
  func cutRecord() throws {
    let pair = try openPair()
    pair.client.write(pattern(1000))
    pair.client.endOutput()
    try pair.intercept { $0 = $0.getSlice(at: $0.readerIndex, length: 500) ?? ByteBuffer() }
    try pair.server.deliver(.max)
    pair.server.endSocketInput()
    #expect(pair.server.recorder.happenings == [.error("truncated"), .inactive])
  }

  @Test("an error that somebody fires into the pipeline reaches its end, once")
  func foreignError() throws {
    struct Lost: Error {}
    let pair = try openPair()
    pair.client.write([1])
    pair.client.channel.pipeline.fireErrorCaught(Lost())
    pair.client.channel.pipeline.fireErrorCaught(Lost())
    #expect(pair.client.recorder.happenings == [.error("Lost()")])
    pair.client.channel.close(promise: nil)
    #expect(pair.client.recorder.happenings == [.error("Lost()"), .inactive])
  }

  @Test("an abort sends no close_notify, and the socket is told of it")
  func abort() throws {
    let pair = try openPair()
    pair.client.write([1])
    let before = pair.client.sentBytes
    let told = pair.client.loop.makePromise(of: Void.self)
    pair.client.channel.triggerUserOutboundEvent(StreamAbort(reason: "test"), promise: told)
    #expect(throws: (any Error).self) { try told.futureResult.now() }
    pair.client.channel.close(promise: nil)
    try pair.pump()
    #expect(pair.client.sentBytes - before == 1 + 22)
    pair.server.endSocketInput()
    #expect(pair.server.recorder.happenings == [.bytes(1), .error("truncated"), .inactive])
  }

  @Test("the promise of an empty write waits for what was written before")
  func emptyWrite() throws {
    let pair = try openPair()
    pair.client.channel.pipeline.syncOperations.flush()
    let empty = pair.client.write([])
    try empty.now()
    #expect(pair.client.recorder.errors.isEmpty)
  }
}

extension TLSEnd {
  fileprivate func endOutputAndPump(_ pair: TLSPair) throws {
    let ended = endOutput()
    try pair.pump()
    try ended.now()
  }
}

@Suite("TLS back-pressure")
struct TLSBackPressureTests {
  let credentials: TLSTestCredentials

  init() throws {
    credentials = try TLSTestCredentials()
  }

  private func openPair() throws -> TLSPair {
    let pair = try TLSPair(credentials, serverReads: false)
    try pair.pump()
    try pair.server.handshake.now()
    return pair
  }

  @Test("without a read the handshake runs, and no byte after it is read or delivered")
  func noReadNoBytes() throws {
    let pair = try openPair()
    let reads = pair.server.probe.reads
    pair.client.write(pattern(100))
    try pair.pump()
    #expect(pair.server.recorder.happenings.isEmpty)
    #expect(pair.server.probe.reads == reads)
  }

  @Test("a read during the handshake is answered after it")
  func earlyRead() throws {
    let pair = try TLSPair(credentials, serverReads: false)
    pair.server.read()
    pair.client.write([1])
    try pair.pump()
    #expect(pair.server.recorder.happenings == [.bytes(1)])
  }

  @Test("each read yields one batch, and the socket rests while something is left to decrypt")
  func oneBatchPerRead() throws {
    let pair = try openPair()
    let bytes = pattern(3 * GnuTLSHandler.batchSize)
    pair.client.write(bytes)
    try pair.intercept { _ in }
    pair.server.read()
    let reads = pair.server.probe.reads
    try pair.server.deliver(.max)
    #expect(pair.server.recorder.happenings == [.bytes(GnuTLSHandler.batchSize)])
    pair.server.read()
    #expect(
      pair.server.recorder.happenings == [.bytes(GnuTLSHandler.batchSize), .bytes(GnuTLSHandler.batchSize)]
    )
    pair.server.read()
    #expect(pair.server.probe.reads == reads)
    #expect(pair.server.recorder.bytes == bytes)
    pair.server.read()
    #expect(pair.server.probe.reads == reads + 1)
  }

  @Test("what a closing socket delivers unasked waits for reads, in order, and so does its end")
  func unaskedBytes() throws {
    let pair = try openPair()
    pair.client.write([1, 2, 3])
    pair.client.write(pattern(50_000))
    pair.client.endOutput()
    try pair.intercept { _ in }
    while pair.server.wire.readableBytes > 0 { try pair.server.deliver(9000) }
    pair.server.endSocketInput()
    #expect(pair.server.recorder.happenings.isEmpty)
    while pair.server.recorder.happenings.last != .inputClosed {
      let before = pair.server.recorder.happenings.count
      pair.server.read()
      try #require(pair.server.recorder.happenings.count > before)
    }
    #expect(pair.server.recorder.bytes == [1, 2, 3] + pattern(50_000))
    #expect(pair.server.recorder.errors.isEmpty)
  }

  @Test("what was received is not lost when the socket goes away before it was asked for")
  func lastChance() throws {
    let pair = try openPair()
    pair.client.write([1, 2, 3])
    try pair.intercept { _ in }
    try pair.server.deliver(.max)
    pair.server.channel.pipeline.fireChannelInactive()
    #expect(pair.server.recorder.happenings.prefix(3) == [.bytes(3), .error("truncated"), .inactive])
  }
}
