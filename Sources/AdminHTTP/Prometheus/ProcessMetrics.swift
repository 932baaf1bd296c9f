#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What Linux says about this process, read from `/proc` when it is asked for.
public struct ProcessMetrics: Sendable, Equatable {
  /// Bytes of memory that are in RAM.
  public var residentMemory: Double?
  /// Open file descriptors.
  public var openFiles: Double?
  /// The most there may be; nil where there is no limit.
  public var maxFiles: Double?
  /// Seconds of CPU used, in user space and in the kernel.
  public var cpuTime: Double?
  /// Seconds from 1970 to the start of the process.
  public var startTime: Double?
  /// Threads of the process.
  public var threads: Double?

  /// Nothing is known.
  public init() {}

  /// The process that calls; what cannot be read stays nil.
  public static func current() -> ProcessMetrics {
    var metrics = ProcessMetrics()
    if let stat = readFile("/proc/self/stat") {
      metrics.takeStat(
        stat,
        bootTime: readFile("/proc/stat").flatMap(bootTime),
        ticksPerSecond: Double(sysconf(CInt(_SC_CLK_TCK))),
        pageSize: Double(sysconf(CInt(_SC_PAGESIZE)))
      )
    }
    metrics.openFiles = countOpenFiles()
    metrics.maxFiles = fileLimit()
    return metrics
  }

  /// Takes what `/proc/self/stat` tells (proc(5)).
  ///
  /// - Parameter bootTime: seconds since 1970.
  mutating func takeStat(_ stat: String, bootTime: Double?, ticksPerSecond: Double, pageSize: Double) {
    // The second field is the name, in parentheses; it may hold spaces and parentheses itself.
    guard let nameEnd = stat.lastIndex(of: ")") else { return }
    let fields = stat[nameEnd...].split(whereSeparator: \.isWhitespace)
    /// By the number in proc(5); the end of the name is the second.
    func field(_ number: Int) -> Double? {
      fields.indices.contains(number - 2) ? Double(fields[number - 2]) : nil
    }
    if let user = field(14), let system = field(15) { cpuTime = (user + system) / ticksPerSecond }
    threads = field(20)
    if let bootTime, let ticks = field(22) { startTime = bootTime + ticks / ticksPerSecond }
    residentMemory = field(24).map { $0 * pageSize }
  }

  /// The line `btime` of `/proc/stat`.
  static func bootTime(_ stat: String) -> Double? {
    stat.split(separator: "\n").first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }
  }

  private static func countOpenFiles() -> Double? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // Not ".", "..", nor the descriptor of the directory itself.
    return Double(max(0, count - 3))
  }

  private static func fileLimit() -> Double? {
    var limit = rlimit()
    #if canImport(Glibc)
      let result = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    #else
      let result = getrlimit(RLIMIT_NOFILE, &limit)
    #endif
    guard result == 0, limit.rlim_cur != rlim_t.max else { return nil }
    return Double(limit.rlim_cur)
  }

  /// A file of `/proc`, which has no size before it is read.
  private static func readFile(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(file, &piece, piece.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      bytes += piece.prefix(count)
    }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }
}

extension ProcessMetrics {
  /// The families that these values fill.
  enum Family: String, CaseIterable {
    case cpuTime = "cpu_seconds_total"
    case maxFiles = "max_fds"
    case openFiles = "open_fds"
    case residentMemory = "resident_memory_bytes"
    case startTime = "start_time_seconds"
    case threads = "threads"

    var name: String { "\(PrometheusName.prefix)process_\(rawValue)" }

    var kind: PrometheusText.Kind { self == .cpuTime ? .counter : .gauge }

    var help: String {
      switch self {
      case .cpuTime: "CPU time of the process, in user space and in the kernel, in seconds."
      case .maxFiles: "The most file descriptors that the process may have."
      case .openFiles: "Open file descriptors of the process."
      case .residentMemory: "Memory of the process that is in RAM, in bytes."
      case .startTime: "When the process started, in seconds since 1970."
      case .threads: "Threads of the process."
      }
    }
  }

  func value(_ family: Family) -> Double? {
    switch family {
    case .cpuTime: cpuTime
    case .maxFiles: maxFiles
    case .openFiles: openFiles
    case .residentMemory: residentMemory
    case .startTime: startTime
    case .threads: threads
    }
  }
}
