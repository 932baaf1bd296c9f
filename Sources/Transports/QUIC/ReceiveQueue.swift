import DequeModule
import NIOCore

/// The in-order bytes of one stream from their packets to the reader, in batches that are ready to be read.
///
/// A batch is bounded, so that what a reader passes on at once is too, and its memory is its own: a reader
/// that holds one batch holds no other.
struct ReceiveQueue {
  private var batches: Deque<ByteBuffer> = []
  private let batchSize: Int
  /// How many bytes the last batch had: the size of the next one's memory.
  private var lastSize = 0

  /// Bytes that nobody took yet.
  private(set) var readableBytes = 0

  /// - Parameter batchSize: most bytes in one batch.
  init(batchSize: Int) {
    self.batchSize = batchSize
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    readableBytes += bytes.count
    var rest = bytes[...]
    while !rest.isEmpty {
      let room = batches.last.map { batchSize - $0.readableBytes } ?? 0
      if room == 0 {
        let capacity = min(batchSize, max(rest.count, lastSize))
        batches.append(ByteBufferAllocator().buffer(capacity: capacity))
      } else {
        let part = rest.prefix(room)
        batches[batches.count - 1].writeBytes(part)
        rest = rest.dropFirst(part.count)
      }
    }
  }

  /// The first batch; empty where nothing waits.
  mutating func take() -> ByteBuffer {
    guard let batch = batches.popFirst() else { return ByteBuffer() }
    lastSize = batch.readableBytes
    readableBytes -= batch.readableBytes
    // A stream that is idle holds no memory here.
    if batches.isEmpty { batches = [] }
    return batch
  }
}
