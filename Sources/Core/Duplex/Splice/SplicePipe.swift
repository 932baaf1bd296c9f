import CSplice

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A pipe of the kernel through which spliced bytes go; owns both its ends.
final class SplicePipe {
  let input: CInt
  let output: CInt
  /// How many bytes fit; the kernel counts pages, so that it can be full before.
  let capacity: Int
  /// How many bytes are in it.
  var held = 0

  /// More than this gains nothing.
  static let largest = 1 << 20

  /// The size of a pipe that may hold so many bytes: the kernel makes them of a power of two.
  static func capacity(within bytes: Int) -> Int {
    let most = UInt(max(4096, min(bytes, largest)))
    return 1 << (UInt.bitWidth - 1 - most.leadingZeroBitCount)
  }

  /// - Parameter capacity: as many bytes, if the kernel allows.
  /// - Throws: `SpliceError`, most often because there are no more descriptors.
  init(capacity: Int) throws {
    var ends: [CInt] = [-1, -1]
    let size = csplice_pipe(&ends, CInt(capacity))
    guard size > 0 else { throw SpliceError(code: -size) }
    output = ends[0]
    input = ends[1]
    self.capacity = Int(size)
  }

  deinit {
    close(input)
    close(output)
  }
}

/// What the kernel said to a splice.
struct SpliceError: Error, CustomStringConvertible {
  var code: CInt

  var description: String { String(cString: strerror(code)) }
}
