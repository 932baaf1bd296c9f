import CMicrohttpd
import MagicalaneCore
import NIOConcurrencyHelpers

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A listening stream socket. Closes in `close()` or deinit; a Unix socket's file goes with it.
final class AdminSocket: Sendable {
  /// Good until `close()`.
  let descriptor: Int32
  /// What is bound: `127.0.0.1:9090`, `[::1]:9090` or `unix:/path`.
  let address: String
  /// The bound port; nil for a Unix socket.
  let port: Int?
  private let file: UnixSocketFile?
  private let isClosed = NIOLockedValueBox(false)

  /// - Parameter descriptor: Owned from here on.
  init(descriptor: Int32, address: String, port: Int?, file: UnixSocketFile?) {
    self.descriptor = descriptor
    self.address = address
    self.port = port
    self.file = file
  }

  deinit {
    close()
  }

  /// Stops listening.
  func close() {
    let wasClosed = isClosed.withLockedValue { closed in
      defer { closed = true }
      return closed
    }
    guard !wasClosed else { return }
    // First the file: who finds it gone binds anew, who finds it there gets an answer or a refusal.
    file?.remove()
    system_close(descriptor)
  }

  /// Binds what the config's `admin.listen` says and listens.
  ///
  /// A name such as `localhost` may have several addresses; each gets a socket, on the same port where the
  /// port is 0. Those of a family that this machine does not have are passed over, if one is left. It asks
  /// the system's resolver, so it may block.
  ///
  /// - Parameter listen: `host:port` or `unix:/path`.
  static func bind(_ listen: String) throws(AdminSocketError) -> [AdminSocket] {
    if listen.hasPrefix("unix:") {
      return [try bindUnix(path: String(listen.dropFirst("unix:".count)), listen: listen)]
    }
    guard let (host, port) = ListenAddress(scheme: "tcp", location: listen).hostAndPort else {
      throw AdminSocketError(listen, .malformed)
    }
    var sockets: [AdminSocket] = []
    var passedOver: AdminSocketError?
    for address in try TCPAddress.resolve(host, port: port, listen: listen) {
      do throws(AdminSocketError) {
        sockets.append(try bind(address, port: sockets.first?.port ?? port, listen: listen))
      } catch {
        guard error.reason.mayBePassedOver, case .name = host else { throw error }
        passedOver = error
      }
    }
    guard !sockets.isEmpty else { throw passedOver ?? AdminSocketError(listen, .unresolved("no address")) }
    return sockets
  }

  // MARK: TCP

  private static func bind(
    _ address: TCPAddress,
    port: Int,
    listen: String
  ) throws(AdminSocketError) -> AdminSocket {
    let descriptor = try open(address.family, listen: listen)
    setOption(descriptor, SOL_SOCKET, SO_REUSEADDR)
    // Otherwise `::` would take the port of 0.0.0.0 too.
    if address.family == AF_INET6 { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY) }
    let bound = address.with(port: port) { system_bind(descriptor, $0, $1) }
    guard bound == 0, listen_(descriptor) else {
      throw failure(descriptor, listen: listen, errno)
    }
    let actual = boundPort(descriptor) ?? port
    return AdminSocket(
      descriptor: descriptor,
      address: address.text(port: actual),
      port: actual,
      file: nil
    )
  }

  private static func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32) {
    var on: Int32 = 1
    setsockopt(descriptor, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
  }

  private static func boundPort(_ descriptor: Int32) -> Int? {
    var storage = sockaddr_storage()
    return withUnsafeMutableBytes(of: &storage) { bytes -> Int? in
      guard let address = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return nil }
      var length = socklen_t(bytes.count)
      guard getsockname(descriptor, address, &length) == 0 else { return nil }
      // The port stands at the same place in both families, in network order.
      return Int(bytes[2]) << 8 | Int(bytes[3])
    }
  }

  // MARK: Unix

  private static func bindUnix(path: String, listen: String) throws(AdminSocketError) -> AdminSocket {
    guard var address = UnixAddress(path) else { throw AdminSocketError(listen, .pathTooLong) }
    try UnixSocketFile.clear(path, &address, listen: listen)
    let descriptor = try open(AF_UNIX, listen: listen)
    // Linux makes the file with the mode of the socket: there is no moment in which others may connect.
    let bound = fchmod(descriptor, 0o600) == 0 && address.with { system_bind(descriptor, $0, $1) } == 0
    guard bound else { throw failure(descriptor, listen: listen, errno) }
    let file = UnixSocketFile(path)
    guard listen_(descriptor) else {
      let error = errno
      file?.remove()
      throw failure(descriptor, listen: listen, error)
    }
    return AdminSocket(descriptor: descriptor, address: "unix:\(path)", port: nil, file: file)
  }

  // MARK: Both

  private static func open(_ family: Int32, listen: String) throws(AdminSocketError) -> Int32 {
    let descriptor = cmicrohttpd_open(family)
    guard descriptor >= 0 else { throw AdminSocketError(listen, .init(errno: errno)) }
    return descriptor
  }

  private static func listen_(_ descriptor: Int32) -> Bool {
    system_listen(descriptor, SOMAXCONN) == 0
  }

  private static func failure(_ descriptor: Int32, listen: String, _ error: Int32) -> AdminSocketError {
    system_close(descriptor)
    return AdminSocketError(listen, .init(errno: error))
  }
}

/// Why the admin API cannot listen.
struct AdminSocketError: Error, Equatable, CustomStringConvertible {
  enum Reason: Equatable {
    case malformed
    /// What the resolver says.
    case unresolved(String)
    case inUse
    case notOurs
    case noSuchFamily
    case permission
    case pathTooLong
    case noDirectory
    case notASocket
    /// An `errno` that has no case of its own.
    case other(Int32)

    init(errno: Int32) {
      switch errno {
      case EADDRINUSE: self = .inUse
      case EADDRNOTAVAIL: self = .notOurs
      case EAFNOSUPPORT: self = .noSuchFamily
      case EACCES, EPERM, EROFS: self = .permission
      case ENOENT, ENOTDIR: self = .noDirectory
      case ENAMETOOLONG: self = .pathTooLong
      default: self = .other(errno)
      }
    }

    fileprivate var mayBePassedOver: Bool { self == .noSuchFamily || self == .notOurs }
  }

  /// As the config writes it.
  var listen: String
  var reason: Reason

  init(_ listen: String, _ reason: Reason) {
    self.listen = listen
    self.reason = reason
  }

  var description: String {
    let isUnix = listen.hasPrefix("unix:")
    let text =
      switch reason {
      case .malformed: "expected HOST:PORT or unix:/PATH"
      case .unresolved(let why): "the name has no address: \(why)"
      case .inUse where isUnix: "another process answers on this socket"
      case .inUse: "the port is in use by another process"
      case .notOurs: "this machine does not have that address"
      case .noSuchFamily: "this machine does not have that family of addresses"
      case .permission where isUnix: "permission denied to create the socket file"
      case .permission: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
      case .pathTooLong: "the path of a Unix socket may have \(UnixAddress.longest) bytes"
      case .noDirectory: "the directory of the socket file does not exist"
      case .notASocket: "a file that is no socket stands there"
      case .other(let number): String(cString: strerror(number))
      }
    return "cannot listen on \(listen): \(text)"
  }
}
