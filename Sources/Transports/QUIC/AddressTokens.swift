import CNgtcp2

/// The tokens by which clients prove that an address is theirs (RFC 9000 §8.1).
///
/// They are sealed under a secret of this process and checked against its own clock, so they end with it.
struct AddressTokens: Sendable {
  /// How long a Retry may take.
  private static let retryLifetime: UInt64 = 10_000_000_000
  /// How long a client may come back without a new proof.
  private static let lifetime: UInt64 = 3_600_000_000_000

  private let secret = randomBytes(32)

  /// What a token in a client's first packet says.
  enum Verdict: Equatable {
    /// The address is the client's.
    case valid
    /// It is, and the client came back after a Retry; this is the ID that it first chose.
    case retried(original: ConnectionID)
    /// No token, or one that is too old or not ours: as if there were none.
    case unknown
    /// A Retry token that is not right: the client will not do better (RFC 9000 §8.1.3).
    case invalid
  }

  /// A token for a client's next connection.
  func make(for remote: ngtcp2_addr, now: UInt64) -> [UInt8]? {
    var token = [UInt8](repeating: 0, count: 128)
    let count = ngtcp2_crypto_generate_regular_token(
      &token,
      secret,
      secret.count,
      remote.addr,
      remote.addrlen,
      now
    )
    return count > 0 ? Array(token.prefix(count)) : nil
  }

  /// A token for a Retry packet.
  ///
  /// - Parameter id: the ID that the Retry packet gives this server.
  func makeRetry(
    for remote: ngtcp2_addr,
    header: ngtcp2_pkt_hd,
    id: ConnectionID,
    now: UInt64
  ) -> [UInt8]? {
    var token = [UInt8](repeating: 0, count: 128)
    var scid = id.cid
    var original = header.dcid
    let count = ngtcp2_crypto_generate_retry_token(
      &token,
      secret,
      secret.count,
      header.version,
      remote.addr,
      remote.addrlen,
      &scid,
      &original,
      now
    )
    return count > 0 ? Array(token.prefix(count)) : nil
  }

  func check(_ header: ngtcp2_pkt_hd, from remote: ngtcp2_addr, now: UInt64) -> Verdict {
    guard header.token.len > 0, let token = header.token.base else { return .unknown }
    switch Int32(token[0]) {
    case NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY:
      var original = ngtcp2_cid()
      var dcid = header.dcid
      let result = ngtcp2_crypto_verify_retry_token(
        &original,
        token,
        header.token.len,
        secret,
        secret.count,
        header.version,
        remote.addr,
        remote.addrlen,
        &dcid,
        AddressTokens.retryLifetime,
        now
      )
      return result == 0 ? .retried(original: ConnectionID(original)) : .invalid
    case NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR:
      let result = ngtcp2_crypto_verify_regular_token(
        token,
        header.token.len,
        secret,
        secret.count,
        remote.addr,
        remote.addrlen,
        AddressTokens.lifetime,
        now
      )
      return result == 0 ? .valid : .unknown
    default:
      return .unknown
    }
  }
}
