import CNgtcp2
import NIOCore

/// A pair of addresses in the form that ngtcp2 takes.
///
/// The C struct points into itself, so it stays in one place on the heap.
final class QUICPath {
  /// Owned, freed in `deinit`.
  private let storage = UnsafeMutablePointer<ngtcp2_path_storage>.allocate(capacity: 1)

  init() {
    storage.initialize(to: ngtcp2_path_storage())
    ngtcp2_path_storage_zero(storage)
  }

  convenience init(local: SocketAddress, remote: SocketAddress) {
    self.init()
    set(local: local, remote: remote)
  }

  deinit {
    storage.deallocate()
  }

  /// Valid for as long as this object.
  var pointer: UnsafeMutablePointer<ngtcp2_path> {
    UnsafeMutableRawPointer(storage).advanced(by: MemoryLayout<ngtcp2_path_storage>.offset(of: \.path) ?? 0)
      .assumingMemoryBound(to: ngtcp2_path.self)
  }

  func set(local: SocketAddress, remote: SocketAddress) {
    local.withSockAddr { localAddress, localSize in
      remote.withSockAddr { remoteAddress, remoteSize in
        ngtcp2_path_storage_init(
          storage,
          localAddress,
          ngtcp2_socklen(localSize),
          remoteAddress,
          ngtcp2_socklen(remoteSize),
          nil
        )
      }
    }
  }

  func copy(from other: UnsafePointer<ngtcp2_path>) {
    ngtcp2_path_copy(pointer, other)
  }

  func equals(_ other: UnsafePointer<ngtcp2_path>) -> Bool {
    ngtcp2_path_eq(pointer, other) != 0
  }
}

extension SocketAddress {
  /// Copies an address that ngtcp2 holds; nil where it is none of IPv4 or IPv6.
  init?(_ address: ngtcp2_addr) {
    guard let raw = UnsafeRawPointer(address.addr) else { return nil }
    switch Int(address.addrlen) {
    case MemoryLayout<sockaddr_in>.size:
      self = SocketAddress(raw.loadUnaligned(as: sockaddr_in.self), host: "")
    case MemoryLayout<sockaddr_in6>.size:
      self = SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self), host: "")
    default:
      return nil
    }
  }
}
