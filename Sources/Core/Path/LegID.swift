/// Names the streams of one leg to their far end, so that it can count together what belongs together: 128 random
/// bits, made anew for each leg that is built.
///
/// It goes with each request as the field `Magicalane-Leg` (docs/path-reports.md), and proves nothing.
public struct LegID: Hashable, Sendable, CustomStringConvertible {
  /// The field of a request head that carries it.
  public static let field = "Magicalane-Leg"

  private let high: UInt64
  private let low: UInt64

  /// One that nobody else has.
  public init() {
    high = .random(in: .min ... .max)
    low = .random(in: .min ... .max)
  }

  /// Reads 32 hexadecimal digits; nil for anything else.
  public init?(_ text: String) {
    let isHexadecimal = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "A")...UInt8(ascii: "F"):
        true
      default: false
      }
    }
    guard text.utf8.count == 32, isHexadecimal, let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.high = high
    self.low = low
  }

  /// 32 hexadecimal digits.
  public var description: String {
    [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
