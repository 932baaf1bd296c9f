import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// An IPv4 or IPv6 address as a number, in host byte order.
public enum IPAddress: Hashable, Sendable {
  case v4(UInt32)
  case v6(UInt128)

  /// Reads the textual forms of RFC 4291 §2.2 and dotted-quad IPv4; no brackets, no zone.
  ///
  /// - Returns: nil for anything else, host names included.
  public init?(_ text: String) {
    // C would stop reading at the first of these.
    guard !text.utf8.contains(0) else { return nil }
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, text, &four) == 1 {
      self = .v4(UInt32(bigEndian: four.s_addr))
    } else if inet_pton(AF_INET6, text, &six) == 1 {
      self.init(six)
    } else {
      return nil
    }
  }

  /// The address part of a socket address; nil for Unix-domain sockets.
  public init?(_ address: SocketAddress) {
    switch address {
    case .v4(let four): self = .v4(UInt32(bigEndian: four.address.sin_addr.s_addr))
    case .v6(let six): self.init(six.address.sin6_addr)
    case .unixDomainSocket: return nil
    }
  }

  private init(_ six: in6_addr) {
    self = .v6(withUnsafeBytes(of: six) { $0.reduce(0) { $0 << 8 | UInt128($1) } })
  }

  /// The bytes in network order: 4 or 16 of them.
  public var bytes: [UInt8] {
    switch self {
    case .v4(let value): (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
    case .v6(let value): (0..<16).map { UInt8(truncatingIfNeeded: value >> (120 - 8 * $0)) }
    }
  }

  /// Reads 4 or 16 bytes in network order; nil for any other count.
  public init?(bytes: some Collection<UInt8>) {
    switch bytes.count {
    case 4: self = .v4(bytes.reduce(0) { $0 << 8 | UInt32($1) })
    case 16: self = .v6(bytes.reduce(0) { $0 << 8 | UInt128($1) })
    default: return nil
    }
  }

  /// The address and a port, as NIO names them.
  public func socketAddress(port: Int) -> SocketAddress {
    switch self {
    case .v4(let value):
      var four = sockaddr_in()
      four.sin_family = sa_family_t(AF_INET)
      four.sin_port = in_port_t(truncatingIfNeeded: port).bigEndian
      four.sin_addr.s_addr = value.bigEndian
      return SocketAddress(four, host: "")
    case .v6:
      var six = sockaddr_in6()
      six.sin6_family = sa_family_t(AF_INET6)
      six.sin6_port = in_port_t(truncatingIfNeeded: port).bigEndian
      withUnsafeMutableBytes(of: &six.sin6_addr) { $0.copyBytes(from: bytes) }
      return SocketAddress(six, host: "")
    }
  }
}

extension IPAddress {
  /// The IPv4 address inside `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2); any other address unchanged.
  ///
  /// A check that looked at the outer form alone could be walked around.
  public var unmapped: IPAddress {
    guard case .v6(let value) = self, value >> 32 == 0xffff else { return self }
    return .v4(UInt32(truncatingIfNeeded: value))
  }

  /// Loopback, and the unspecified addresses, which Linux routes to loopback.
  public var isLoopback: Bool {
    switch unmapped {
    case .v4(let value): value >> 24 == 127 || value >> 24 == 0
    case .v6(let value): value <= 1
    }
  }

  /// 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291 §2.5.6).
  public var isLinkLocal: Bool {
    switch unmapped {
    case .v4(let value): value >> 16 == 0xa9fe
    case .v6(let value): value >> 118 == 0x3fa
    }
  }

  /// 0.0.0.0 or ::, which as a listen address means every interface.
  public var isUnspecified: Bool {
    switch self {
    case .v4(let value): value == 0
    case .v6(let value): value == 0
    }
  }
}

extension IPAddress: CustomStringConvertible {
  /// RFC 5952 for IPv6, dotted quads for IPv4.
  public var description: String {
    if case .v4(let value) = self {
      return "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)"
    }
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let raw = bytes
    inet_ntop(AF_INET6, raw, &text, socklen_t(text.count))
    return text.withUnsafeBufferPointer {
      String(decoding: $0.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self)
    }
  }
}
