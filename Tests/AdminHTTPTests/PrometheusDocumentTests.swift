import Foundation
import Testing

@testable import MagicalaneAdminHTTP

@Suite struct PrometheusDocumentTests {
  private let document: String

  init() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    document = try String(contentsOf: root.appending(path: "docs/metrics.md"), encoding: .utf8)
  }

  /// Name and type in the tables' rows.
  private var documented: [String: String] {
    var found: [String: String] = [:]
    for line in document.split(separator: "\n") where line.hasPrefix("| `magicalane_") {
      let cells = line.split(separator: "|").map {
        $0.trimmingCharacters(in: CharacterSet(charactersIn: " `"))
      }
      found[cells[0]] = cells[1]
    }
    return found
  }

  @Test func `metrics.md and the program know the same families`() {
    let process = ProcessMetrics.Family.allCases.map(\.name)
    #expect(Set(documented.keys) == Set(MetricFamilies.known + process))
  }

  @Test func `types in metrics.md follow from the names`() {
    for (name, type) in documented where name.hasSuffix("_total") { #expect(type == "counter", "\(name)") }
    for (name, type) in documented where name.hasSuffix("_duration_seconds") {
      #expect(type == "histogram", "\(name)")
    }
    #expect(documented.filter { $0.value == "counter" }.allSatisfy { $0.key.hasSuffix("_total") })
  }
}
