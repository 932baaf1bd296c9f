import CNgtcp2

/// A connection ID of up to 20 bytes (RFC 9000 §5.1), as a key that needs no heap.
struct ConnectionID: Hashable, Sendable {
  private var high: UInt64 = 0
  private var middle: UInt64 = 0
  private var low: UInt32 = 0
  private(set) var count: UInt8 = 0

  /// Bytes behind the first 20 are left out; callers check the length where it comes from the wire.
  init(_ bytes: UnsafeRawBufferPointer) {
    let length = min(bytes.count, Int(NGTCP2_MAX_CIDLEN))
    count = UInt8(length)
    var padded: (UInt64, UInt64, UInt64) = (0, 0, 0)
    withUnsafeMutableBytes(of: &padded) {
      $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<length]))
    }
    high = padded.0
    middle = padded.1
    low = UInt32(truncatingIfNeeded: padded.2)
  }

  init(_ cid: ngtcp2_cid) {
    self = withUnsafeBytes(of: cid.data) {
      ConnectionID(UnsafeRawBufferPointer(rebasing: $0[..<cid.datalen]))
    }
  }

  /// The form in which ngtcp2 takes it.
  var cid: ngtcp2_cid {
    var cid = ngtcp2_cid()
    cid.datalen = Int(count)
    withUnsafeMutableBytes(of: &cid.data) { target in
      withBytes { target.copyMemory(from: $0) }
    }
    return cid
  }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    let padded = (high, middle, UInt64(low))
    return withUnsafeBytes(of: padded) { body(UnsafeRawBufferPointer(rebasing: $0[..<Int(count)])) }
  }
}

extension ConnectionID: CustomStringConvertible {
  /// Lower-case hex.
  var description: String {
    withBytes { bytes in
      bytes.map { byte in String(byte >> 4, radix: 16) + String(byte & 15, radix: 16) }.joined()
    }
  }
}

/// Makes connection IDs that say, to this process alone, which event loop owns the connection.
///
/// A datagram whose sender's address changed can arrive at any of the sockets that share a port; the ID tells
/// which loop it is for. The index is masked by a hash of the random bytes under the process's own hash seed,
/// so that an observer cannot group a server's connections by it (RFC 9000 §5.1).
struct ConnectionIDSource: Sendable {
  /// Bytes of every ID made here.
  static let length = 16

  /// Index of the loop that owns the connections.
  let loop: UInt8
  /// The key from which the stateless reset token of each ID is derived (RFC 9000 §10.3.2).
  let resetSecret: [UInt8]

  func make() -> ConnectionID {
    var bytes = randomBytes(ConnectionIDSource.length)
    bytes[0] = loop ^ ConnectionIDSource.mask(bytes[1...])
    return bytes.withUnsafeBytes { ConnectionID($0) }
  }

  /// Which loop made an ID; any number where it was not made here.
  static func loop(of id: ConnectionID) -> UInt8 {
    id.withBytes { bytes in
      guard let first = bytes.first else { return 0 }
      return first ^ mask(Array(bytes.dropFirst())[...])
    }
  }

  private static func mask(_ bytes: ArraySlice<UInt8>) -> UInt8 {
    var hasher = Hasher()
    hasher.combine(bytes)
    return UInt8(truncatingIfNeeded: hasher.finalize())
  }

  /// Writes the 16 bytes of the ID's stateless reset token.
  ///
  /// - Returns: whether the cryptography worked.
  func writeResetToken(of id: ConnectionID, to token: UnsafeMutablePointer<UInt8>) -> Bool {
    var cid = id.cid
    return ngtcp2_crypto_generate_stateless_reset_token(token, resetSecret, resetSecret.count, &cid) == 0
  }
}
