import Foundation

extension String {
  /// The text with all that could steer a terminal, or reorder what it shows, written as `\u{…}`.
  var printable: String {
    guard unicodeScalars.contains(where: \.isUnprintable) else { return self }
    return unicodeScalars.reduce(into: "") { result, scalar in
      if scalar.isUnprintable {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }

  /// How many columns of a terminal the text takes.
  var columns: Int {
    if utf8.allSatisfy({ $0 < 0x80 }) { return utf8.count }
    return reduce(0) { $0 + $1.columns }
  }

  /// The text, or as much of its start as fits into so many columns, with `…` behind it.
  func clipped(to limit: Int) -> String {
    guard columns > limit else { return self }
    guard limit > 0 else { return "" }
    var room = limit - 1
    let start = prefix { character in
      room -= character.columns
      return room >= 0
    }
    return start + "…"
  }
}

extension Unicode.Scalar {
  fileprivate var isUnprintable: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: true
    default: false
    }
  }
}

extension Character {
  /// Two for the wide characters of East Asia and for emoji, else one.
  fileprivate var columns: Int {
    unicodeScalars.contains { scalar in
      switch scalar.value {
      case 0x1100...0x115f, 0x2e80...0xa4cf, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe30...0xfe6f,
        0xff00...0xff60, 0xffe0...0xffe6, 0x1f300...0x1faff, 0x20000...0x3fffd:
        true
      default:
        scalar.properties.isEmojiPresentation
      }
    } ? 2 : 1
  }
}

/// Amounts as a person reads them.
enum Amount {
  /// `17 B`, `1.5 KiB`, `230 MiB`: units of 1024, three digits or so.
  static func bytes(_ count: UInt64) -> String {
    guard count >= 1024 else { return "\(count) B" }
    var value = Double(count) / 1024
    var units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][...]
    // What would be rounded to 1024 is one of the next unit.
    while value >= 1023.5, units.count > 1 {
      value /= 1024
      units.removeFirst()
    }
    let digits = value < 99.95 ? 1 : 0
    return String(format: "%.\(digits)f ", value) + (units.first ?? "")
  }

  /// `17 B/s`; `-` where it is not known.
  static func rate(_ bytesPerSecond: Double?) -> String {
    bytesPerSecond.map { bytes(UInt64(clamping: $0)) + "/s" } ?? "-"
  }

  /// `42s`, `3m12s`, `2h05m`, `3d04h`.
  static func duration(seconds: Double) -> String {
    let seconds = UInt64(clamping: seconds)
    return switch seconds {
    case ..<60: "\(seconds)s"
    case ..<3600: "\(seconds / 60)m\(twoDigits(seconds % 60))s"
    case ..<86400: "\(seconds / 3600)h\(twoDigits(seconds / 60 % 60))m"
    default: "\(seconds / 86400)d\(twoDigits(seconds / 3600 % 24))h"
    }
  }

  /// `1 session`, `2 sessions`.
  static func count(_ count: Int, _ noun: String) -> String {
    count == 1 ? "1 \(noun)" : "\(count) \(noun)s"
  }

  private static func twoDigits(_ number: UInt64) -> String {
    number < 10 ? "0\(number)" : "\(number)"
  }
}

extension UInt64 {
  /// The whole part; 0 for what is negative or no number, the largest number for what is larger.
  fileprivate init(clamping value: Double) {
    guard value > 0 else {
      self = 0
      return
    }
    self = value < 0x1p64 ? UInt64(value) : .max
  }
}
