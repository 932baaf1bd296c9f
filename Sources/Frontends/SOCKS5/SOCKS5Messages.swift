import MagicalaneCore
import NIOCore

/// How a client authenticates (RFC 1928 §3).
enum SOCKS5Method: UInt8 {
  case none = 0
  case userAndPassword = 2
}

/// What the client asks for (RFC 1928 §4).
enum SOCKS5Request {
  case incomplete
  case connect(Target)
  /// The reply that says what is wrong with it, and the same in words.
  case invalid(SOCKS5Reply, reason: String)

  /// Reads VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT.
  ///
  /// A request with a fault is read to its end all the same where its length is known: a socket that closes
  /// on unread bytes resets the connection, and the reply may be lost.
  static func read(_ bytes: inout ByteBuffer) -> SOCKS5Request {
    guard let version: UInt8 = bytes.readInteger() else { return .incomplete }
    guard version == 5 else { return .invalid(.generalFailure, reason: "a request of version \(version)") }
    guard let (command, _, type) = bytes.readMultipleIntegers(as: (UInt8, UInt8, UInt8).self) else {
      return .incomplete
    }
    guard let addressType = AddressType(rawValue: type) else {
      return .invalid(.addressTypeNotSupported, reason: "an unknown address type \(type)")
    }
    guard let address = addressType.readAddress(&bytes), let port: UInt16 = bytes.readInteger() else {
      return .incomplete
    }
    guard command == 1 else { return .invalid(.commandNotSupported, reason: "command \(command)") }
    guard let host = addressType.host(address) else {
      return .invalid(.hostUnreachable, reason: "a host name that cannot exist")
    }
    guard port > 0 else { return .invalid(.generalFailure, reason: "port 0") }
    return .connect(Target(host: host, port: Int(port)))
  }

  private enum AddressType: UInt8 {
    case v4 = 1
    case name = 3
    case v6 = 4

    func readAddress(_ bytes: inout ByteBuffer) -> ByteBuffer? {
      switch self {
      case .v4: bytes.readSlice(length: 4)
      case .v6: bytes.readSlice(length: 16)
      case .name: bytes.readField()
      }
    }

    /// A name that reads as an address is one: many clients send all hosts as names.
    func host(_ address: ByteBuffer) -> Host? {
      let bytes = address.readableBytesView
      return switch self {
      case .v4, .v6: IPAddress(bytes: bytes).map(Host.address)
      // NUL would end the name early for the C functions that read addresses.
      case .name: bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self).flatMap(Host.init)
      }
    }
  }
}

/// How a request ended (RFC 1928 §6).
enum SOCKS5Reply: UInt8, CaseIterable {
  case succeeded = 0
  case generalFailure = 1
  case notAllowed = 2
  case networkUnreachable = 3
  case hostUnreachable = 4
  case connectionRefused = 5
  case ttlExpired = 6
  case commandNotSupported = 7
  case addressTypeNotSupported = 8

  /// The nearest thing that the protocol has a word for.
  init(_ kind: OpenError.Kind) {
    self =
      switch kind {
      case .refused: .connectionRefused
      case .hostUnreachable, .nameNotResolved: .hostUnreachable
      case .networkUnreachable: .networkUnreachable
      case .hopLimitExceeded, .timedOut: .ttlExpired
      case .notAllowed: .notAllowed
      case .credentialsRefused, .unavailable, .protocolViolation, .failed: .generalFailure
      }
  }

  /// The reply, with 0.0.0.0:0 as the bound address: behind a tunnel there is none that means anything here.
  var message: ByteBuffer {
    ByteBuffer(bytes: [5, rawValue, 0, 1, 0, 0, 0, 0, 0, 0])
  }
}

extension ByteBuffer {
  /// Takes a field that has its length in one byte before it; nil where it is not complete.
  mutating func readField() -> ByteBuffer? {
    guard let length: UInt8 = getInteger(at: readerIndex), readableBytes > Int(length) else { return nil }
    moveReaderIndex(forwardBy: 1)
    return readSlice(length: Int(length))
  }
}
