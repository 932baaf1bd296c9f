import CGnuTLS

/// Bytes that cannot be guessed, from GnuTLS's generator.
func randomBytes(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  fillRandom(&bytes, count)
  return bytes
}

/// As `randomBytes`, into memory that the caller owns.
func fillRandom(_ target: UnsafeMutablePointer<UInt8>, _ count: Int) {
  if gnutls_rnd(GNUTLS_RND_RANDOM, target, count) != 0 {
    // The system gives no randomness through GnuTLS: Swift's own source is as strong and cannot fail.
    for index in 0..<count { target[index] = .random(in: 0...255) }
  }
}
