import Synchronization

/// A floating-point number that many threads change, without a lock.
struct AtomicDouble: ~Copyable, Sendable {
  private let bits = Atomic<UInt64>(0)

  /// Zero.
  init() {}

  var value: Double {
    Double(bitPattern: bits.load(ordering: .relaxed))
  }

  func set(_ value: Double) {
    bits.store(value.bitPattern, ordering: .relaxed)
  }

  func add(_ amount: Double) {
    var known = bits.load(ordering: .relaxed)
    while true {
      let next = (Double(bitPattern: known) + amount).bitPattern
      let (exchanged, original) = bits.weakCompareExchange(expected: known, desired: next, ordering: .relaxed)
      if exchanged { return }
      known = original
    }
  }
}
