import NIOCore
import Testing

@testable import MagicalaneTransports

@Suite("What arrives on a QUIC stream") struct QUICReceiveQueueTests {
  private func append(_ text: String, to queue: inout ReceiveQueue) {
    Array(text.utf8).withUnsafeBytes { queue.append($0) }
  }

  @Test("batches keep the order and their bound, however the bytes arrived")
  func order() {
    var queue = ReceiveQueue(batchSize: 4)
    for part in ["ab", "c", "defghij", "k"] { append(part, to: &queue) }
    #expect(queue.readableBytes == 11)
    #expect((0..<4).map { _ in String(buffer: queue.take()) } == ["abcd", "efgh", "ijk", ""])
    #expect(queue.readableBytes == 0)
  }

  @Test("bytes that come behind a taken batch do not touch it")
  func ownership() {
    var queue = ReceiveQueue(batchSize: 8)
    append("abc", to: &queue)
    let first = queue.take()
    append("def", to: &queue)
    #expect(String(buffer: first) == "abc")
    #expect(String(buffer: queue.take()) == "def")
  }
}

@Suite("What waits in a stream") struct BufferShareTests {
  /// A stream's window, one batch of it and the socket behind it share one buffer.
  @Test("in and out together keep the buffer", arguments: [8 << 10, 64 << 10, 1 << 20, 16 << 20, 1 << 30])
  func share(buffer: Int) {
    let windows = QUICWindows(buffer: buffer)
    let socket = TCPSocket(buffer: buffer)
    #expect(Int(windows.maxStream) + windows.batch + socket.highMark <= buffer)
    #expect(buffer / 4 * 3 + socket.batch <= buffer)
  }
}
