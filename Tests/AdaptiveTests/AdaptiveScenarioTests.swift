import MagicalaneAdaptive
import MagicalaneCore
import Testing

/// What the policy makes of whole courses of events, each with many seeds.
@Suite struct AdaptiveScenarioTests {
  private let path = SimulatedPath()
  private let quic = "tokyo-quic"
  private let tls = "tokyo-tls"
  private static let seeds: ClosedRange<UInt64> = 1...12

  @Test(arguments: seeds)
  func `on a clean path the cheap member is taken and kept`(seed: UInt64) throws {
    let result = try path.run(seconds: 600, seed: seed) { _ in (udp: 0.001, tcp: 0.001) }
    #expect(try #require(result.seconds(to: tls, from: 0)) <= 15)
    #expect(result.switches == 1)
    #expect(result.decisions.last?.diagnosis == "clean")
  }

  @Test(arguments: seeds)
  func `on a path that loses a tenth the member that bears it is taken and kept`(seed: UInt64) throws {
    let result = try path.run(seconds: 600, seed: seed) { _ in (udp: 0.1, tcp: 0.1) }
    #expect(try #require(result.seconds(to: quic, from: 15)) == 0)
    #expect(result.switches <= 2)
    #expect(result.decisions.last?.diagnosis == "lossy path")
  }

  @Test(arguments: seeds)
  func `where UDP alone loses the cheap member is taken`(seed: UInt64) throws {
    let result = try path.run(seconds: 600, seed: seed) { _ in (udp: 0.1, tcp: 0) }
    #expect(try #require(result.seconds(to: tls, from: 15)) == 0)
    #expect(result.switches == 1)
    #expect(result.decisions.last?.diagnosis == "UDP policed or blocked")
  }

  @Test(arguments: seeds)
  func `where TCP alone loses the member that bears loss is taken`(seed: UInt64) throws {
    let result = try path.run(seconds: 600, seed: seed) { _ in (udp: 0, tcp: 0.1) }
    #expect(try #require(result.seconds(to: quic, from: 15)) == 0)
    #expect(result.switches <= 2)
    #expect(result.decisions.last?.diagnosis == "TCP shaped")
  }

  @Test(arguments: seeds)
  func `where UDP never comes through the other member is taken at the first failure`(seed: UInt64) throws {
    let result = try path.run(seconds: 600, seed: seed) { _ in (udp: 1, tcp: 0) }
    #expect(result.seconds(to: tls, from: 0) == path.stall - 1)
    #expect(result.switches == 1)
    #expect(result.decisions.last?.diagnosis == "down")
  }

  @Test(arguments: seeds)
  func `where UDP ends in mid-run the other member is taken at the first failure`(seed: UInt64) throws {
    let result = try path.run(seconds: 300, seed: seed) { (udp: $0 < 100 ? 0.1 : 1, tcp: 0.1) }
    #expect(result.chosen[99] == quic)
    #expect(result.seconds(to: tls, from: 100) == path.stall - 1)
  }

  @Test(arguments: seeds)
  func `a member that comes back is taken again once the dwell is over`(seed: UInt64) throws {
    let result = try path.run(seconds: 300, seed: seed) {
      (udp: (100..<150).contains($0) ? 1 : 0.1, tcp: 0.1)
    }
    #expect(result.seconds(to: tls, from: 100, until: 150) == path.stall - 1)
    #expect(try #require(result.seconds(to: quic, from: 150)) <= 1)
  }

  @Test(arguments: seeds)
  func `loss that comes and goes is followed there and back`(seed: UInt64) throws {
    let result = try path.run(seconds: 540, seed: seed) { second in
      let loss = (180..<360).contains(second) ? 0.1 : 0
      return (udp: loss, tcp: loss)
    }
    #expect(result.chosen[179] == tls)
    #expect(try #require(result.seconds(to: quic, from: 180, until: 360)) <= 15)
    // The window empties, and then loss has to stay low for `hold`.
    #expect(try #require(result.seconds(to: tls, from: 360)) <= 10 + 60 + 15)
    #expect(result.switches == 3)
  }

  @Test(arguments: seeds)
  func `loss that flaps every 5 seconds causes few switches`(seed: UInt64) throws {
    let result = try path.run(seconds: 300, seed: seed) { second in
      let loss = second / 5 % 2 == 1 ? 0.1 : 0
      return (udp: loss, tcp: loss)
    }
    #expect(result.switches <= 3)
    #expect(result.chosen.last == quic)
  }

  @Test(arguments: seeds)
  func `a member that comes and goes every 5 seconds causes few switches`(seed: UInt64) throws {
    let result = try path.run(seconds: 300, seed: seed) { second in
      (udp: second / 5 % 2 == 1 ? 1 : 0, tcp: 0.1)
    }
    // Away from it as often as it fails, back to it by the rules.
    #expect(result.switches <= 2 * path.settings.switchesPerHour + 3)
  }

  @Test func `the choice changes no more often than an hour allows`() throws {
    var path = path
    path.settings.hold = .zero
    path.settings.dwell = .zero
    let result = try path.run(seconds: 3600, seed: 1) { second in
      let loss = second / 60 % 2 == 1 ? 0.2 : 0
      return (udp: loss, tcp: loss)
    }
    #expect(result.switches == path.settings.switchesPerHour)
    let held = result.decisions.filter { $0.reason.contains("switches_per_hour is 6") }
    #expect(!held.isEmpty)
  }

  @Test func `the same samples give the same decisions`() throws {
    let first = try path.run(seconds: 300, seed: 7) { second in (udp: 0.06, tcp: second < 100 ? 0.1 : 0.01) }
    let again = try path.run(seconds: 300, seed: 7) { second in (udp: 0.06, tcp: second < 100 ? 0.1 : 0.01) }
    #expect(first.decisions == again.decisions)
    #expect(first.decisions.count >= 2)
  }
}
