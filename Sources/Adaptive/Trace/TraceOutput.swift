import Foundation

/// The file below a `TraceFile`. Used by one thread at a time, so it is no `Sendable`.
final class TraceOutput {
  private struct Failure: Error {
    var reason: String

    /// What the system says of its last call that failed.
    static func system(_ action: String) -> Failure {
      // strerror never gives a null pointer, whatever the number.
      Failure(reason: "cannot \(action): \(String(cString: strerror(errno)))")
    }
  }

  private let path: String
  private let limit: Int
  private let header: TraceHeader
  private let onError: @Sendable (String) -> Void
  /// Open from the first sample on; owned here.
  private var descriptor: CInt?
  private var size = 0
  private var isFailing = false

  init(path: String, limit: Int, header: TraceHeader, onError: @escaping @Sendable (String) -> Void) {
    self.path = path
    self.limit = limit
    self.header = header
    self.onError = onError
  }

  deinit { close() }

  func write(_ sample: PathSample) {
    do {
      let line = try TraceLine.sample(sample).text()
      if descriptor == nil { try open() }
      if size + line.utf8.count > limit { try beginAnew() }
      try append(line)
      isFailing = false
    } catch {
      // What was written in part is cut off at the next header.
      close()
      if !isFailing { onError((error as? Failure)?.reason ?? "\(error)") }
      isFailing = true
    }
  }

  func close() {
    if let descriptor { Foundation.close(descriptor) }
    descriptor = nil
  }

  private func open() throws {
    // Others need not read where a user's server stands.
    let opened = Foundation.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0o600)
    guard opened >= 0 else { throw Failure.system("open \(path)") }
    descriptor = opened
    var status = stat()
    guard fstat(opened, &status) == 0 else { throw Failure.system("look at \(path)") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw Failure(reason: "\(path) is no file") }
    size = Int(status.st_size)
    if size > 0, !endsLine(opened) { try append("\n") }
    try append(try TraceLine.header(header).text())
  }

  /// Whether the last write before was a whole one.
  private func endsLine(_ descriptor: CInt) -> Bool {
    var last: UInt8 = 0
    return pread(descriptor, &last, 1, off_t(size - 1)) == 1 && last == UInt8(ascii: "\n")
  }

  private func beginAnew() throws {
    close()
    guard rename(path, path + ".1") == 0 else { throw Failure.system("rename \(path)") }
    try open()
  }

  private func append(_ text: String) throws {
    guard let descriptor else { return }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw Failure.system("write \(path)") }
      size += written
      rest = rest.dropFirst(written)
    }
  }
}
