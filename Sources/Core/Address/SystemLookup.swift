import NIOCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Asks the system's resolver, hosts file included; blocks.
///
/// - Throws: `OpenError` of kind `.nameNotResolved`.
@Sendable
func systemLookup(_ name: String) throws -> [IPAddress] {
  var hints = addrinfo()
  hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
  var list: UnsafeMutablePointer<addrinfo>?
  let status = getaddrinfo(name, nil, &hints, &list)
  guard status == 0 else {
    throw OpenError(.nameNotResolved, "\(name) does not resolve: \(String(cString: gai_strerror(status)))")
  }
  // getaddrinfo gave us the list; it is ours to free.
  defer { freeaddrinfo(list) }
  return sequence(first: list, next: { $0?.pointee.ai_next }).compactMap { $0 }.compactMap(address)
}

private func address(_ entry: UnsafeMutablePointer<addrinfo>) -> IPAddress? {
  guard let raw = entry.pointee.ai_addr else { return nil }
  switch entry.pointee.ai_family {
  case AF_INET:
    return raw.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
      IPAddress(SocketAddress($0.pointee, host: ""))
    }
  case AF_INET6:
    return raw.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
      IPAddress(SocketAddress($0.pointee, host: ""))
    }
  default:
    return nil
  }
}
