#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A config file that is about to be replaced: the new text is on disk beside it, under a name of its own.
///
/// A reader sees the old text or the new one, never a part of it, whatever happens in between.
struct ConfigReplacement: ~Copyable {
  private let temporary: String
  private let file: String

  /// - Throws: why nothing can be written there.
  init(of path: String, with text: String) throws(ConfigChangeError) {
    file = Self.resolved(path)
    temporary = "\(file).new-\(getpid())"
    var status = stat()
    let mode = stat(file, &status) == 0 ? status.st_mode & 0o7777 : 0o600
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw Self.failure(temporary) }
    defer { close(descriptor) }
    guard Self.write(text, to: descriptor), fchmod(descriptor, mode) == 0, fsync(descriptor) == 0 else {
      defer { unlink(temporary) }
      throw Self.failure(temporary)
    }
    // Only root may give files away; without it the file is ours, as its directory let us make it.
    if status.st_nlink > 0 { _ = fchown(descriptor, status.st_uid, status.st_gid) }
  }

  /// Puts the new text in the place of the old.
  consuming func commit() throws(ConfigChangeError) {
    guard rename(temporary, file) == 0 else {
      defer { unlink(temporary) }
      throw Self.failure(file)
    }
  }

  /// Leaves everything as it was.
  consuming func cancel() {
    unlink(temporary)
  }

  /// The path from the root. A link stays a link: the file that it names is replaced.
  static func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
  }

  private static func write(_ text: String, to descriptor: CInt) -> Bool {
    var bytes = Array(text.utf8)[...]
    var written = 0
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, written) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return false }
      bytes = bytes.dropFirst(count)
      written += count
    }
    return true
  }

  private static func failure(_ path: String) -> ConfigChangeError {
    .cannotPersist(reason: "\(path): \(String(cString: strerror(errno)))")
  }
}
