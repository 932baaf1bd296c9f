import Foundation

/// How much memory there is for this process.
enum MachineMemory {
  /// The default of `limits.memory`: a quarter of what there is, as it was when the process first asked.
  static let quarter =
    max(
      total(read: { try? String(contentsOfFile: $0, encoding: .utf8) }) ?? assumed,
      smallest
    ) / 4

  /// Where the system does not tell.
  private static let assumed = 1 << 30
  /// A quarter of less would be no use to anybody.
  private static let smallest = 64 << 20

  /// The machine's memory, or the least that a control group around the process allows, in bytes.
  ///
  /// - Parameter read: the text of a file; nil where there is none.
  static func total(read: (String) -> String?) -> Int? {
    let groups = (read("/proc/self/cgroup") ?? "").split(separator: "\n").flatMap(limitFiles)
    let limits = groups.compactMap { read($0).flatMap(number) }
    let machine = read("/proc/meminfo").flatMap(machineTotal)
    return (limits + [machine].compactMap(\.self)).min()
  }

  /// The line `MemTotal:  16316412 kB` (proc(5)).
  private static func machineTotal(_ text: String) -> Int? {
    let line = text.split(separator: "\n").first { $0.hasPrefix("MemTotal:") }
    let words = line?.split(separator: " ") ?? []
    return words.count == 3 && words[2] == "kB" ? Int(words[1]).map { $0 << 10 } : nil
  }

  /// The files with the limits of one line of `/proc/self/cgroup`, `0::/a/b` or `4:memory:/a/b` (cgroups(7)), and
  /// of the groups around it: each of them holds.
  private static func limitFiles(_ line: Substring) -> [String] {
    let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    guard fields.count == 3 else { return [] }
    let place: (root: String, name: String)
    switch (fields[0], fields[1]) {
    case ("0", ""): place = ("/sys/fs/cgroup", "memory.max")
    case (_, "memory"): place = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    default: return []
    }
    let names = fields[2].split(separator: "/")
    return (0...names.count).map { count in
      ([place.root] + names.prefix(count).map(String.init) + [place.name]).joined(separator: "/")
    }
  }

  /// Nil for `max`.
  private static func number(_ text: String) -> Int? {
    Int(text.trimmingCharacters(in: .whitespacesAndNewlines)).flatMap { $0 > 0 ? $0 : nil }
  }
}
