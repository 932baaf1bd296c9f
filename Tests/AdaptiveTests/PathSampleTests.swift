import Foundation
import MagicalaneAdaptive
import Testing

@Suite struct PathSampleTests {
  @Test func `a sample comes back from a trace as it was`() throws {
    let sample = PathSample(
      time: 1_700_000_000.5,
      legs: [LegSample(up: .init(sent: 50, lost: 5), opens: [0.25], failures: ["stalled"], isHeard: true)]
    )
    let line = try JSONEncoder().encode(sample)
    #expect(try JSONDecoder().decode(PathSample.self, from: line) == sample)
  }
}
