import NIOCore

/// Fills records: large writes are encrypted where they lie, small ones are gathered first, so that a flush
/// of many small writes costs one record and not many.
struct RecordPacking {
  private let session: TLSSession
  private var gathered = ByteBuffer()

  init(_ session: TLSSession) {
    self.session = session
  }

  /// - Parameter isLast: nothing follows, so that nothing is held back for the next record.
  mutating func add(_ bytes: ByteBuffer, isLast: Bool) throws(TLSError) {
    var bytes = bytes
    if gathered.readableBytes > 0, var filler = bytes.readSlice(length: min(room, bytes.readableBytes)) {
      gathered.writeBuffer(&filler)
      if room == 0 || isLast && bytes.readableBytes == 0 { try encryptGathered() }
    }
    let whole =
      isLast ? bytes.readableBytes : bytes.readableBytes / TLSSession.recordSize * TLSSession.recordSize
    if whole > 0, let records = bytes.readSlice(length: whole) { try encrypt(records) }
    gathered.writeBuffer(&bytes)
  }

  private var room: Int { TLSSession.recordSize - gathered.readableBytes }

  private mutating func encryptGathered() throws(TLSError) {
    try encrypt(gathered)
    gathered.clear()
  }

  private func encrypt(_ bytes: ByteBuffer) throws(TLSError) {
    let result = bytes.withUnsafeReadableBytes { bytes in
      Result { () throws(TLSError) in try session.write(bytes) }
    }
    try result.get()
  }
}
