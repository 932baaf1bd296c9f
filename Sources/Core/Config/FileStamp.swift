#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Tells a file from the one that took its place or from what it held before, without reading it.
struct FileStamp {
  let text: String

  /// - Parameter path: a file that need not exist.
  init(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else {
      text = "-"
      return
    }
    let changed = status.st_mtim
    text = "\(status.st_dev):\(status.st_ino):\(status.st_size):\(changed.tv_sec).\(changed.tv_nsec)"
  }
}
