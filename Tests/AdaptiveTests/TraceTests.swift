import Foundation
import MagicalaneCore
import NIOConcurrencyHelpers
import Testing

@testable import MagicalaneAdaptive

@Suite struct TraceTests {
  private static let header = TraceHeader(
    transport: "tokyo",
    members: SimulatedPath.members,
    settings: AdaptiveSettings()
  )
  private static let sample = PathSample(
    time: 1_800_000_000.25,
    legs: [LegSample(up: .init(sent: 50, lost: 5), failures: ["a/b"]), LegSample(isHeard: true)]
  )

  private func read(_ text: String) throws -> [TraceLine] {
    var reader = TraceReader(Data(text.utf8), file: "tokyo.trace")
    var lines: [TraceLine] = []
    while let line = try reader.next() { lines.append(line) }
    return lines
  }

  private func text(_ lines: TraceLine...) throws -> String { try lines.map { try $0.text() }.joined() }

  @Test func `the lines have this form`() throws {
    let text = try text(.header(Self.header), .sample(Self.sample))
    #expect(
      text == """
        {"format":"magicalane-trace/1","members":[{"bearsLoss":true,"name":"tokyo-quic","type":"quic"},\
        {"bearsLoss":false,"name":"tokyo-tls","type":"tls"}],"settings":{"dwell":"30s","enter_loss":"5%",\
        "head_start":"300ms","hold":"60s","leave_loss":"2%","min_packets":50,"reach":"120s","stall":"3s",\
        "switches_per_hour":6,"window":"10s"},"transport":"tokyo"}
        {"legs":[{"failures":["a/b"],"isHeard":false,"opens":[],"up":{"lost":5,"sent":50}},\
        {"failures":[],"isHeard":true,"opens":[]}],"time":1800000000.25}

        """
    )
  }

  @Test func `a trace comes back as it was written`() throws {
    let lines: [TraceLine] = [.header(Self.header), .sample(Self.sample), .header(Self.header)]
    let text = try lines.map { try $0.text() }.joined()
    #expect(try read(text) == lines)
  }

  @Test func `the last line of a run may be cut off anywhere`() throws {
    let header = try text(.header(Self.header))
    let sample = try text(.sample(Self.sample))
    for count in 1..<sample.utf8.count - 1 {
      let cut = header + sample + sample.prefix(count)
      #expect(try read(cut).count == 2)
      #expect(try read(cut + "\n" + header + sample).count == 4)
    }
  }

  @Test(arguments: [
    ("", "tokyo.trace: a trace begins with a header, and this file is empty"),
    ("{}\n", "tokyo.trace:1: a trace begins with a header, and this is none"),
    ("hello\n", "tokyo.trace:1: is no JSON object"),
    (
      #"{"format":"magicalane-trace/2"}"#,
      "tokyo.trace:1: is of the form 'magicalane-trace/2', and this program reads magicalane-trace/1"
    ),
    (#"{"format":"magicalane-trace/1"}"#, "tokyo.trace:1: transport is missing"),
  ])
  func `a file that is no trace is refused`(text: String, message: String) {
    let error = #expect(throws: TraceError.self) { try read(text) }
    #expect(error.map { "\($0)" } == message)
  }

  @Test func `a bad line within a run is named`() throws {
    let (header, sample) = (try text(.header(Self.header)), try text(.sample(Self.sample)))
    let bad = [
      ("nonsense\n", "is no JSON object"), (#"{"time":1,"legs":[]}"# + "\n", "has 0 legs"),
      (#"{"time":"1","legs":[]}"# + "\n", "time: "),
    ]
    for (line, message) in bad {
      let error = #expect(throws: TraceError.self) { try read(header + line + sample) }
      #expect(error?.line == 2)
      #expect(error?.reason.hasPrefix(message) == true)
    }
  }

  @Test func `settings that make no sense are refused at their key`() throws {
    let header = try text(.header(Self.header)).replacing(#""enter_loss":"5%""#, with: #""enter_loss":"1%""#)
    let error = #expect(throws: TraceError.self) { try read(header) }
    #expect(error?.reason == "settings.leave_loss: must not be above enter_loss, which is 1%; it is 2%")
  }

  @Test func `a replay decides as the policy did`() throws {
    let result = try SimulatedPath().run(seconds: 200, seed: 3) { second in
      (udp: 0.1, tcp: second < 90 ? 0 : 1)
    }
    var replay = try TraceReplay(Self.header)
    result.samples.forEach { replay.take($0) }
    #expect(replay.decisions == result.decisions)
    #expect(replay.switches == result.switches)
    #expect(replay.failureSwitches == 1)
    #expect(replay.secondsChosen.reduce(0, +) == 199)
  }
}

@Suite struct TraceFileTests {
  private static let header = TraceHeader(
    transport: "tokyo",
    members: SimulatedPath.members,
    settings: AdaptiveSettings()
  )

  private func withFile(_ body: (String) throws -> Void) throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: directory) }
    try body(directory.appendingPathComponent("tokyo.trace").path)
  }

  private func write(_ times: ClosedRange<Int>, to path: String, limit: Int = 1 << 20) -> [String] {
    let errors = NIOLockedValueBox<[String]>([])
    let file = TraceFile(path: path, limit: limit, header: Self.header) { reason in
      errors.withLockedValue { $0.append(reason) }
    }
    for time in times { file.append(PathSample(time: Double(time), legs: [LegSample(), LegSample()])) }
    file.close()
    return errors.withLockedValue { $0 }
  }

  /// The times of the samples; nil stands for a header.
  private func times(_ path: String) throws -> [Int?] {
    var reader = try TraceReader(path: path)
    var times: [Int?] = []
    while let line = try reader.next() {
      if case .sample(let sample) = line { times.append(Int(sample.time)) } else { times.append(nil) }
    }
    return times
  }

  @Test func `samples are written in their order, behind a header`() throws {
    try withFile { path in
      #expect(write(1...3, to: path).isEmpty)
      let found = try times(path)
      #expect(found == [nil, 1, 2, 3])
    }
  }

  @Test func `a file that is there is added to, whatever its last line`() throws {
    try withFile { path in
      _ = write(1...2, to: path)
      let cut = try Data(contentsOf: URL(fileURLWithPath: path)).dropLast(5)
      try cut.write(to: URL(fileURLWithPath: path))
      _ = write(7...8, to: path)
      let found = try times(path)
      #expect(found == [nil, 1, nil, 7, 8])
    }
  }

  @Test func `a full file makes way for a new one, and no file is above the limit`() throws {
    try withFile { path in
      #expect(write(1...50, to: path, limit: 2000).isEmpty)
      let sizes = try [path, path + ".1"].map { try Data(contentsOf: URL(fileURLWithPath: $0)).count }
      #expect(sizes.allSatisfy { $0 <= 2000 })
      #expect(sizes[1] > 1500)
      let kept = try (times(path + ".1") + times(path)).compactMap { $0 }
      #expect(kept == Array(kept[0]...50))
      #expect(kept.count > 10)
    }
  }

  @Test func `what cannot be written is told once`() throws {
    try withFile { path in
      let errors = write(1...5, to: path + "/below")
      #expect(errors == ["cannot open \(path)/below: No such file or directory"])
    }
  }

  @Test func `a file that cannot be read is told with its cause`() {
    let error = #expect(throws: TraceError.self) { try TraceReader(path: "/nonexistent/tokyo.trace") }
    #expect(
      error.map { "\($0)" } == "/nonexistent/tokyo.trace: cannot be read: No such file or directory"
    )
  }
}
