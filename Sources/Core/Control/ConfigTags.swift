/// Tags of configs and entries, of use while the program runs.
struct ConfigTags: Sendable {
  private let salt = UInt64.random(in: .min ... .max)

  func tag(ofGeneration generation: Int) -> String {
    "\(generation)-\(hex(salt.hashValue))"
  }

  /// Of what the entry says, secrets included; the salt and the hash's own seed keep it from telling them.
  func tag(of entry: ConfigValue) -> String {
    var hasher = Hasher()
    hasher.combine(salt)
    hasher.combine(entry.canonicalText)
    return hex(hasher.finalize())
  }

  private func hex(_ value: Int) -> String { String(UInt(bitPattern: value), radix: 16) }
}
