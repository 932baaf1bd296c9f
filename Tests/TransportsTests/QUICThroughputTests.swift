import NIOCore
import Testing

@testable import MagicalaneTransports

/// A link with a rate and a queue, in virtual time.
private func shape(_ link: QUICTestLink, megabits: UInt64, loss: Double, queue: UInt64, seed: UInt64) {
  var random = SeededGenerator(state: seed)
  var free: [Bool: UInt64] = [:]
  link.fate = { [unowned link] toServer, _, bytes in
    if .random(in: 0..<1, using: &random) < loss { return .drop }
    let start = max(link.now, free[toServer] ?? 0)
    guard start - link.now < queue else { return .drop }
    let end = start + UInt64(bytes.count) * 8000 / megabits
    free[toServer] = end
    return .delay(end - link.now)
  }
}

/// Sends from client to server for some virtual time.
///
/// - Returns: bytes per second, and the most that was in flight.
private func goodput(
  _ congestion: QUICCongestionControl,
  megabits: UInt64,
  oneWay: UInt64,
  loss: Double,
  seconds: UInt64,
  seed: UInt64 = 1
) throws -> (rate: Double, inFlight: Int) {
  var settings = QUICSettings()
  settings.congestion = congestion
  let link = try QUICTestLink(client: settings)
  link.latency = oneWay
  shape(link, megabits: megabits, loss: loss, queue: 2 * oneWay, seed: seed)
  #expect(link.handshake())
  let stream = try #require(link.client.connection.openStream())
  let piece = pattern(64 << 10)
  var peak = 0
  link.client.onChange = { _ in
    peak = max(peak, stream.output.inFlight)
    while stream.output.held < 16 << 20 { link.client.connection.write(piece, on: stream) }
  }
  link.client.connection.write(piece, on: stream)
  let server = try #require(link.server)
  var total = 0
  server.onChange = { total += server.connection.takeAll(from: $0).readableBytes }
  let start = link.now
  link.run(for: seconds * 1_000_000_000)
  return (Double(total) / (Double(link.now - start) / 1e9), peak)
}

@Suite struct QUICThroughputTests {
  @Test("the default congestion control keeps most of a link that loses one packet in a hundred")
  func loss() throws {
    let (rate, _) = try goodput(
      QUICSettings().congestion,
      megabits: 20,
      oneWay: 20_000_000,
      loss: 0.01,
      seconds: 3
    )
    #expect(rate > 0.6 * 20e6 / 8)
  }

  @Test("a stream's window grows beyond its first size where the path holds more")
  func window() throws {
    let first = Int(QUICSettings().windows.initialStream)
    let result = try goodput(.cubic, megabits: 30, oneWay: 150_000_000, loss: 0, seconds: 4)
    #expect(result.inFlight > first * 3 / 2)
  }
}
