import NIOCore

/// A duration in the config: `500ms`, `30s`, `5m`, `2h`.
public struct ConfigDuration: ConfigScalar, Hashable, Sendable {
  /// Not negative.
  public var amount: TimeAmount

  /// A duration made by hand.
  public init(_ amount: TimeAmount) {
    self.amount = amount
  }

  /// See `ConfigScalar`.
  public static var configForm: String { "a duration such as 500ms, 30s, 5m or 2h" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: ConfigDuration { ConfigDuration(.seconds(1)) }

  /// Reads digits and a unit; nil for anything else and for more than the 292 years that `TimeAmount` holds.
  public init?(configText: String) {
    let units: [Substring: Int64] = [
      "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
    ]
    guard let (number, unit) = numberAndUnit(configText), let scale = units[unit],
      let number = Int64(exactly: number)
    else { return nil }
    let (nanoseconds, overflow) = number.multipliedReportingOverflow(by: scale)
    guard !overflow else { return nil }
    amount = .nanoseconds(nanoseconds)
  }
}

/// A number of bytes in the config: `64KiB`, `4MiB`, `1GiB`, `500KB`, or plain bytes.
public struct ByteSize: ConfigScalar, Hashable, Sendable {
  /// Not negative.
  public var bytes: Int

  /// A size made by hand.
  public init(bytes: Int) {
    self.bytes = bytes
  }

  /// See `ConfigScalar`.
  public static var configForm: String { "a size such as 64KiB, 4MiB or a number of bytes" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: ByteSize { ByteSize(bytes: 1 << 20) }

  /// Reads digits and a unit: none or `B`, `KiB`, `MiB`, `GiB` (1024), or `KB`, `MB`, `GB` (1000).
  public init?(configText: String) {
    let units: [Substring: Int] = [
      "": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1000, "MB": 1_000_000,
      "GB": 1_000_000_000,
    ]
    guard let (number, unit) = numberAndUnit(configText), let scale = units[unit],
      let number = Int(exactly: number)
    else { return nil }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: scale)
    guard !overflow else { return nil }
    self.bytes = bytes
  }
}

/// `30s` as 30 and `s`; nil without digits. A space may stand between.
private func numberAndUnit(_ text: String) -> (UInt64, Substring)? {
  let digits = text.prefix { $0.isASCII && $0.isNumber }
  guard let number = UInt64(digits) else { return nil }
  return (number, text.dropFirst(digits.count).drop { $0 == " " })
}

/// A password or a token in the config: the config remembers where it stands, and printing it shows none of it.
public struct Secret: ConfigScalar, Hashable, Sendable, CustomStringConvertible {
  /// The secret itself: for comparing and sending, never for a log or a message.
  public var value: String

  /// A secret made by hand.
  public init(_ value: String) {
    self.value = value
  }

  /// See `ConfigScalar`.
  public static var configForm: String { "text that is not empty" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: Secret { Secret("") }

  /// Takes any text but the empty one, which most often is a variable that was never filled.
  public init?(configText: String) {
    guard !configText.isEmpty else { return nil }
    value = configText
  }

  /// Three stars.
  public var description: String { "***" }
}

/// The path of a file in the config: the config remembers it, so that a reload sees when the file was replaced.
///
/// A relative path starts in the directory of the config, which plugins get in their context.
public struct FilePath: ConfigScalar, Hashable, Sendable, CustomStringConvertible {
  /// As it is written.
  public var text: String

  /// A path made by hand.
  public init(_ text: String) {
    self.text = text
  }

  /// See `ConfigScalar`.
  public static var configForm: String { "the path of a file" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: FilePath { FilePath("placeholder") }

  /// Takes any text but the empty one.
  public init?(configText: String) {
    guard !configText.isEmpty else { return nil }
    text = configText
  }

  /// As it is written.
  public var description: String { text }

  /// The path from the root, or from where the program was started.
  public func resolved(in directory: String) -> String {
    text.hasPrefix("/") || directory.isEmpty ? text : "\(directory)/\(text)"
  }
}

extension Target: ConfigScalar {
  /// See `ConfigScalar`.
  public static var configForm: String { "HOST:PORT with a port from 1 to 65535" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: Target { Target(host: .name("placeholder"), port: 1) }
  /// See `ConfigScalar`.
  public init?(configText: String) { self.init(configText) }
}

extension ListenAddress: ConfigScalar {
  /// See `ConfigScalar`.
  public static var configForm: String { "an address such as tcp://127.0.0.1:1080" }
  /// See `ConfigScalar`.
  public static var configPlaceholder: ListenAddress {
    ListenAddress(scheme: "placeholder", location: "placeholder")
  }
  /// See `ConfigScalar`.
  public init?(configText: String) { self.init(configText) }
}
