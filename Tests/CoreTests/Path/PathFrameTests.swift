import NIOCore
import Testing

@testable import MagicalaneCore

@Suite struct PathFrameTests {
  static let full = PathReport(
    number: 70,
    counts: PathCounts(
      sent: 100_000,
      received: 99_000,
      lost: 17,
      roundTrip: PathCounts.RoundTrip(smoothed: 40_123_000, variation: 2_000_000)
    )
  )
  static let bare = PathReport(number: 1, counts: .zero)

  /// All frames in these bytes, and how many bytes are left.
  private func frames(_ bytes: [UInt8]) throws -> (frames: [PathFrame], left: Int) {
    var buffer = ByteBuffer(bytes: bytes)
    var frames: [PathFrame] = []
    while let frame = try PathFrame.take(from: &buffer) { frames.append(frame) }
    return (frames, buffer.readableBytes)
  }

  @Test func `a query is three bytes until its number needs more`() {
    #expect(Array(PathFrame.query(1).bytes.readableBytesView) == [1, 1, 1])
    #expect(Array(PathFrame.query(63).bytes.readableBytesView) == [1, 1, 63])
    #expect(Array(PathFrame.query(64).bytes.readableBytesView) == [1, 2, 0x40, 64])
  }

  @Test func `a report is laid out as the document says`() {
    #expect(
      Array(PathFrame.report(Self.full).bytes.readableBytesView) == [
        2, 18, 0x40, 70, 0x80, 0x01, 0x86, 0xa0, 7, 0x80, 0x01, 0x82, 0xb8, 17, 0x80, 0x00, 0x9c, 0xbb, 0x47,
        0xd0,
      ]
    )
    let documented = PathReport(
      number: 1,
      counts: PathCounts(
        sent: 5,
        received: 4,
        roundTrip: PathCounts.RoundTrip(smoothed: 40_000_000, variation: 2_000_000)
      )
    )
    #expect(
      Array(PathFrame.report(documented).bytes.readableBytesView) == [
        0x02, 0x0a, 0x01, 0x05, 0x05, 0x04, 0x80, 0x00, 0x9c, 0x40, 0x47, 0xd0,
      ]
    )
    #expect(Array(PathFrame.report(Self.bare).bytes.readableBytesView) == [2, 3, 1, 0, 0])
  }

  @Test(arguments: [PathFrame.query(0), .query((1 << 62) - 1), .report(full), .report(bare)])
  func `a frame comes back from its bytes, however they are cut`(frame: PathFrame) throws {
    let bytes = Array(frame.bytes.readableBytesView)
    for cut in 0..<bytes.count {
      var buffer = ByteBuffer(bytes: bytes[..<cut])
      #expect(try PathFrame.take(from: &buffer) == nil)
      #expect(buffer.readableBytes == cut)
      buffer.writeBytes(bytes[cut...])
      buffer.writeBytes([1])
      #expect(try PathFrame.take(from: &buffer) == frame)
      #expect(buffer.readableBytes == 1)
    }
  }

  @Test func `a number over 62 bits is sent as the largest`() throws {
    let bytes = Array(PathFrame.query(.max).bytes.readableBytesView)
    #expect(try frames(bytes).frames == [.query((1 << 62) - 1)])
  }

  @Test func `frames of unknown types are skipped`() throws {
    let bytes: [UInt8] = [9, 0, 200, 3, 1, 2, 3, 1, 1, 5, 0, 1, 0]
    let read = try frames(bytes)
    #expect(read.frames == [.query(5)])
    #expect(read.left == 0)
  }

  @Test func `what stands behind the known fields of a report is left to readers to come`() throws {
    #expect(try frames([2, 5, 1, 0, 8, 77, 78]).frames == [.report(Self.bare)])
    #expect(try frames([1, 3, 7, 1, 1]).frames == [.query(7)])
  }

  @Test(
    arguments: [
      [1, 0], [1, 1, 0x40], [2, 0], [2, 1, 1], [2, 2, 1, 1], [2, 3, 1, 1, 1], [2, 5, 1, 1, 4, 1, 0x80],
      [1, 0x41, 0x00], [7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
      [2, 19, 1, 0, 4] + [UInt8](repeating: 0xff, count: 16),
    ] as [[UInt8]]
  )
  func `a frame that is too long or ends within a number is an error`(bytes: [UInt8]) {
    #expect(throws: PathFrameError.self) { try frames(bytes) }
  }

  @Test func `random bytes end in frames, an error or a short rest`() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      var bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      // Mostly heads that are well-formed, so that payloads are reached.
      if bytes.count > 2, Bool.random() {
        bytes.replaceSubrange(0..<2, with: [.random(in: 0...3), .random(in: 0...30)])
      }
      if let read = try? frames(bytes) { #expect(read.left <= 10 + PathFrame.limit) }
    }
  }
}
