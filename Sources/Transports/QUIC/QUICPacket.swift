import CNgtcp2

/// What can be read of a packet without keys (RFC 8999), and the packets that need no connection.
enum QUICPacket {
  /// A client's first datagram is at least this large (RFC 9000 §14.1).
  static let smallestFirstDatagram = 1200

  /// What stands at the start of a datagram.
  enum Start {
    /// For the connection with this ID. A long header's source ID is there too.
    case known(destination: ConnectionID, isLong: Bool)
    /// A version that we do not speak, with both IDs, to be told which one we do.
    case otherVersion(destination: [UInt8], source: [UInt8])
    case malformed
  }

  static func start(of packet: UnsafeRawBufferPointer) -> Start {
    guard let bytes = packet.bindMemory(to: UInt8.self).baseAddress, packet.count > 0 else {
      return .malformed
    }
    var parsed = ngtcp2_version_cid()
    switch ngtcp2_pkt_decode_version_cid(&parsed, bytes, packet.count, ConnectionIDSource.length) {
    case 0:
      guard parsed.dcidlen <= Int(NGTCP2_MAX_CIDLEN) else { return .malformed }
      let destination = ConnectionID(UnsafeRawBufferPointer(start: parsed.dcid, count: parsed.dcidlen))
      return .known(destination: destination, isLong: bytes[0] & 0x80 != 0)
    case NGTCP2_ERR_VERSION_NEGOTIATION:
      return .otherVersion(
        destination: Array(UnsafeBufferPointer(start: parsed.dcid, count: parsed.dcidlen)),
        source: Array(UnsafeBufferPointer(start: parsed.scid, count: parsed.scidlen))
      )
    default:
      return .malformed
    }
  }

  /// The header of a client's first packet; nil where the datagram is none, or too small for one.
  ///
  /// The header's token points into `packet`.
  static func firstHeader(_ packet: UnsafeRawBufferPointer) -> ngtcp2_pkt_hd? {
    guard packet.count >= smallestFirstDatagram, let bytes = packet.bindMemory(to: UInt8.self).baseAddress
    else {
      return nil
    }
    var header = ngtcp2_pkt_hd()
    guard ngtcp2_accept(&header, bytes, packet.count) == 0 else { return nil }
    return header
  }

  /// A Version Negotiation packet (RFC 9000 §17.2.1).
  static func versionNegotiation(destination: [UInt8], source: [UInt8]) -> [UInt8] {
    // One reserved version keeps clients from relying on a list of one (RFC 9000 §6.3).
    let versions: [UInt32] = [NGTCP2_PROTO_VER_V1, 0x1a2a_3a4a]
    return written(limit: 128) { target, size in
      ngtcp2_pkt_write_version_negotiation(
        target,
        size,
        .random(in: 0...255),
        source,
        source.count,
        destination,
        destination.count,
        versions,
        versions.count
      )
    }
  }

  /// A Retry packet (RFC 9000 §17.2.5).
  ///
  /// - Parameter id: the ID under which the client comes back.
  static func retry(_ header: ngtcp2_pkt_hd, id: ConnectionID, token: [UInt8]) -> [UInt8] {
    var destination = header.scid
    var source = id.cid
    var original = header.dcid
    return written(limit: 512) { target, size in
      ngtcp2_crypto_write_retry(
        target,
        size,
        header.version,
        &destination,
        &source,
        &original,
        token,
        token.count
      )
    }
  }

  /// CONNECTION_CLOSE for a client whose first packet is refused (RFC 9000 §10.2.3).
  static func refusal(_ header: ngtcp2_pkt_hd, code: UInt64) -> [UInt8] {
    var destination = header.scid
    var source = header.dcid
    return written(limit: 512) { target, size in
      ngtcp2_crypto_write_connection_close(target, size, header.version, &destination, &source, code, nil, 0)
    }
  }

  /// A stateless reset (RFC 9000 §10.3): looks like any other packet, smaller than the one that it answers.
  static func statelessReset(for id: ConnectionID, ids: ConnectionIDSource, triggerSize: Int) -> [UInt8]? {
    let size = min(triggerSize - 1, 43)
    // Below this the answer could not be told from noise.
    guard size >= Int(NGTCP2_MIN_STATELESS_RESET_RANDLEN) + Int(NGTCP2_STATELESS_RESET_TOKENLEN) else {
      return nil
    }
    var token = [UInt8](repeating: 0, count: Int(NGTCP2_STATELESS_RESET_TOKENLEN))
    guard ids.writeResetToken(of: id, to: &token) else { return nil }
    let noise = randomBytes(size - token.count)
    return written(limit: size) { target, size in
      ngtcp2_pkt_write_stateless_reset(target, size, &token, noise, noise.count)
    }
  }

  private static func written(
    limit: Int,
    _ write: (UnsafeMutablePointer<UInt8>, Int) -> ngtcp2_ssize
  ) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: limit) { target, count in
      count = max(0, target.baseAddress.map { write($0, limit) } ?? 0)
    }
  }
}
