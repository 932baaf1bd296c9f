/// A part of a whole in the config: `10%` or `0.1`.
public struct Ratio: ConfigScalar, Hashable, Sendable, CustomStringConvertible {
  /// From 0 to 1.
  public var value: Double

  /// A ratio made by hand.
  public init(_ value: Double) {
    self.value = value
  }

  /// See `ConfigScalar`.
  public static var configForm: String { "a ratio such as 10% or 0.1" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: Ratio { Ratio(0.5) }

  /// Reads digits, with a point among them or not, as a number from 0 to 1 or with `%` from 0 to 100.
  public init?(configText: String) {
    let isPercentage = configText.hasSuffix("%")
    let number = isPercentage ? configText.dropLast().drop(trailing: " ") : configText[...]
    let isPlain = number.utf8.allSatisfy { ascii in
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(ascii) || ascii == UInt8(ascii: ".")
    }
    guard isPlain, let read = Double(number) else { return nil }
    value = isPercentage ? read / 100 : read
    guard (0...1).contains(value) else { return nil }
  }

  /// As a percentage with the digits that it needs, up to four behind the point: `2.5%`.
  public var description: String {
    let steps = Int((value * 1_000_000).rounded())
    guard steps % 10_000 != 0 else { return "\(steps / 10_000)%" }
    let digits = String(steps % 10_000 + 10_000).dropFirst().drop(trailing: "0")
    return "\(steps / 10_000).\(digits)%"
  }
}

extension Substring {
  fileprivate func drop(trailing character: Character) -> Substring {
    var rest = self
    while rest.last == character { rest.removeLast() }
    return rest
  }
}
