import CMicrohttpd
import MagicalaneCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// An address to listen on.
struct TCPAddress: Equatable {
  var ip: IPAddress

  var family: Int32 {
    switch ip {
    case .v4: AF_INET
    case .v6: AF_INET6
    }
  }

  /// `127.0.0.1:9090`, `[::1]:9090`
  func text(port: Int) -> String {
    Target(host: .address(ip), port: port).description
  }

  /// Calls with a `sockaddr` that lives during the call.
  func with<Result>(port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    ip.socketAddress(port: port).withSockAddr { body($0, socklen_t($1)) }
  }

  /// The addresses of a host, each once.
  static func resolve(_ host: Host, port: Int, listen: String) throws(AdminSocketError) -> [TCPAddress] {
    guard case .name(let name) = host else {
      guard case .address(let ip) = host else { return [] }
      return [TCPAddress(ip: ip)]
    }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_PASSIVE
    // Owned here, freed below.
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(name, nil, &hints, &list)
    guard status == 0 else {
      throw AdminSocketError(listen, .unresolved(String(cString: gai_strerror(status))))
    }
    defer { freeaddrinfo(list) }
    var found: [TCPAddress] = []
    for entry in sequence(first: list, next: { $0?.pointee.ai_next }) {
      guard let entry, let ip = IPAddress(entry.pointee.ai_addr) else { continue }
      if !found.contains(TCPAddress(ip: ip)) { found.append(TCPAddress(ip: ip)) }
    }
    return found
  }
}

extension IPAddress {
  /// Reads what `getaddrinfo` gives.
  fileprivate init?(_ address: UnsafePointer<sockaddr>?) {
    guard let address else { return nil }
    let raw = UnsafeRawPointer(address)
    // The family says how long the structure is and where the bytes stand.
    switch Int32(address.pointee.sa_family) {
    case AF_INET: self.init(bytes: UnsafeRawBufferPointer(start: raw + 4, count: 4))
    case AF_INET6: self.init(bytes: UnsafeRawBufferPointer(start: raw + 8, count: 16))
    default: return nil
    }
  }
}

/// A path as a socket address.
struct UnixAddress {
  /// Bytes of the longest path; one more ends it.
  static let longest = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

  private var address = sockaddr_un()

  /// - Returns: nil where the path is empty, too long or contains a zero byte.
  init?(_ path: String) {
    let bytes = Array(path.utf8)
    guard (1...Self.longest).contains(bytes.count), !bytes.contains(0) else { return nil }
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  }

  /// Calls with a `sockaddr` that lives during the call.
  mutating func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}

/// The file of a bound Unix socket.
struct UnixSocketFile: Sendable {
  private var path: String
  private var device: dev_t
  private var inode: ino_t

  /// The file that stands at a path; nil where there is none.
  init?(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    self.path = path
    device = status.st_dev
    inode = status.st_ino
  }

  /// Removes it, unless another process has put its own there in the meantime.
  func remove() {
    guard let now = UnixSocketFile(path), now.device == device, now.inode == inode else { return }
    unlink(path)
  }

  /// Removes what a process left that ended without removing it: a socket on which no one answers.
  static func clear(_ path: String, _ address: inout UnixAddress, listen: String) throws(AdminSocketError) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw AdminSocketError(listen, .notASocket) }
    let probe = cmicrohttpd_open(AF_UNIX)
    guard probe >= 0 else { throw AdminSocketError(listen, .init(errno: errno)) }
    defer { system_close(probe) }
    let answered = address.with { connect(probe, $0, $1) }
    let error = errno
    // Anything else, a full queue among it, means that someone is there or that it cannot be told.
    guard answered != 0, error == ECONNREFUSED else {
      throw AdminSocketError(listen, error == EACCES && answered != 0 ? .permission : .inUse)
    }
    unlink(path)
  }
}

// The names of the system, where a type's own names hide them.
@discardableResult
func system_close(_ descriptor: Int32) -> Int32 { close(descriptor) }
func system_listen(_ descriptor: Int32, _ backlog: Int32) -> Int32 { listen(descriptor, backlog) }
func system_bind(_ descriptor: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> Int32 {
  bind(descriptor, address, length)
}
