import CNgtcp2
import DequeModule
import NIOCore

/// The bytes of one stream from write to acknowledgement, at addresses that do not change.
///
/// ngtcp2 reads the bytes again when a packet is lost, so each stays where it is until the peer has it. Large
/// buffers are held, not copied: NIO promises that the memory of a `ByteBuffer`'s storage stays valid for as
/// long as the storage object is retained (`withUnsafeReadableBytesWithStorageManagement`). Small ones are
/// copied together into blocks, so that a few bytes do not hold a large read buffer. A queue whose bytes all
/// arrived holds no memory.
struct SendQueue {
  private struct Chunk {
    let base: UnsafeMutablePointer<UInt8>
    var count: Int
    /// Keeps `base` valid.
    let storage: AnyObject
  }

  /// Buffers below this are copied.
  private static let smallest = 4096

  private var chunks: Deque<Chunk> = []
  /// Offset in the stream of the first chunk's first byte.
  private var start: UInt64 = 0
  /// Where the next byte to send is: index of its chunk, and its place in it.
  private var nextIndex = 0
  private var nextPlace = 0
  private var block: SmallWrites?

  /// Bytes that the peer has, counted from the stream's start.
  private(set) var acknowledged: UInt64 = 0
  /// Bytes that no packet has carried yet.
  private(set) var unsent = 0

  /// Bytes that are not acknowledged: sent or not.
  var held: Int { Int(start + UInt64(chunksTotal) - acknowledged) }
  private var chunksTotal = 0

  /// Bytes that are on their way: sent and not acknowledged.
  var inFlight: Int { max(0, held - unsent) }

  mutating func append(_ buffer: ByteBuffer) {
    let count = buffer.readableBytes
    guard count > 0 else { return }
    unsent += count
    chunksTotal += count
    if SendQueue.isSmall(count, in: buffer) {
      copy(buffer)
    } else {
      buffer.withUnsafeReadableBytesWithStorageManagement { bytes, storage in
        // `bytes` has a base address, for it is not empty; ngtcp2 only reads, though its type lacks `const`.
        guard let base = bytes.baseAddress else { return }
        let pointer = UnsafeMutableRawPointer(mutating: base).assumingMemoryBound(to: UInt8.self)
        chunks.append(Chunk(base: pointer, count: count, storage: storage.takeUnretainedValue()))
      }
    }
  }

  /// A few bytes of a large read buffer would hold all of it.
  private static func isSmall(_ count: Int, in buffer: ByteBuffer) -> Bool {
    count < smallest || count <= SmallWrites.largest && count < buffer.storageCapacity / 4
  }

  private mutating func copy(_ buffer: ByteBuffer) {
    let count = buffer.readableBytes
    let block = blockWithRoom(for: count)
    let base = block.append(buffer)
    if let last = chunks.indices.last, chunks[last].base + chunks[last].count == base,
      chunks[last].storage === block
    {
      chunks[last].count += count
    } else {
      chunks.append(Chunk(base: base, count: count, storage: block))
    }
  }

  /// Blocks are small where little is sent and double while more comes before all is acknowledged.
  private mutating func blockWithRoom(for count: Int) -> SmallWrites {
    if let block, block.room >= count { return block }
    let size = min(SmallWrites.largest, max(SmallWrites.smallest, 2 * (block?.size ?? 0)))
    let new = SmallWrites(size: max(count, size))
    block = new
    return new
  }

  /// Fills `vectors` from the first unsent byte on, up to `limit` bytes.
  ///
  /// - Returns: how many vectors, and how many bytes they hold together.
  func fill(_ vectors: UnsafeMutableBufferPointer<ngtcp2_vec>, limit: Int) -> (vectors: Int, bytes: Int) {
    var used = 0
    var total = 0
    var place = nextPlace
    var index = nextIndex
    while index < chunks.count, used < vectors.count, total < limit {
      let count = min(chunks[index].count - place, limit - total)
      if count > 0 {
        vectors[used] = ngtcp2_vec(base: chunks[index].base + place, len: count)
        used += 1
        total += count
      }
      index += 1
      place = 0
    }
    return (used, total)
  }

  /// A packet took the next `count` bytes.
  mutating func sent(_ count: Int) {
    unsent -= count
    nextPlace += count
    while nextIndex < chunks.count, nextPlace >= chunks[nextIndex].count {
      // The last chunk stays the next one while small writes may still make it longer.
      guard nextIndex + 1 < chunks.count else { return }
      nextPlace -= chunks[nextIndex].count
      nextIndex += 1
    }
  }

  /// The peer has everything below `offset`.
  mutating func acknowledge(upTo offset: UInt64) {
    acknowledged = max(acknowledged, offset)
    while let first = chunks.first, start + UInt64(first.count) <= acknowledged {
      chunks.removeFirst()
      start += UInt64(first.count)
      chunksTotal -= first.count
      if nextIndex > 0 {
        nextIndex -= 1
      } else {
        nextPlace = 0
      }
    }
    if chunks.isEmpty {
      chunks = []
      block = nil
    }
  }

  /// Nothing more will be sent: what was not sent yet counts no more. What was sent stays in place, for
  /// ngtcp2 lets go of it only when the stream closes.
  mutating func abandon() {
    unsent = 0
  }
}

/// Memory for writes that are too small to be held one by one.
private final class SmallWrites {
  static let smallest = 512
  static let largest = 16 << 10

  let size: Int
  /// Owned, freed in `deinit`.
  private let memory: UnsafeMutablePointer<UInt8>
  private var used = 0

  var room: Int { size - used }

  init(size: Int) {
    self.size = size
    memory = .allocate(capacity: size)
  }

  deinit {
    memory.deallocate()
  }

  /// Copies the buffer's bytes behind those already here; the caller has checked `room`.
  func append(_ buffer: ByteBuffer) -> UnsafeMutablePointer<UInt8> {
    let base = memory + used
    let count = buffer.readableBytes
    buffer.withUnsafeReadableBytes { bytes in
      UnsafeMutableRawBufferPointer(start: base, count: count).copyMemory(from: bytes)
    }
    used += count
    return base
  }
}
