/// Which series there are, by family, and how many instruments use each.
struct SeriesRegistry {
  /// What came of asking for a series.
  enum Answer {
    case kept(any Series)
    /// - Parameter isNews: whether it is the first time for this name or reason.
    case refused(String, isNews: Bool)
  }

  private struct Entry {
    let series: any Series
    var references: Int
  }

  private struct Family {
    let kind: PrometheusText.Kind
    /// By their labels.
    var entries: [String: Entry] = [:]
  }

  private var families: [String: Family] = [:]
  private var count = 0
  /// The names of all lines that are written.
  private var lineNames = MetricFamilies.reserved
  private var reported: Set<String> = []
  private var hasReportedLimit = false

  /// A series for one more instrument.
  mutating func retain(
    _ id: SeriesID,
    _ kind: PrometheusText.Kind,
    limit: Int,
    _ make: () -> any Series
  ) -> Answer {
    if let family = families[id.family] {
      guard family.kind == kind else { return conflict(id.family) }
    } else {
      guard lineNames.isDisjoint(with: SeriesRegistry.lineNames(id.family, kind)) else {
        return conflict(id.family)
      }
    }
    if let entry = families[id.family]?.entries[id.labels] {
      families[id.family]?.entries[id.labels]?.references += 1
      return .kept(entry.series)
    }
    guard count < limit else {
      defer { hasReportedLimit = true }
      return .refused("there are \(limit) series already", isNews: !hasReportedLimit)
    }
    let series = make()
    count += 1
    lineNames.formUnion(SeriesRegistry.lineNames(id.family, kind))
    families[id.family, default: Family(kind: kind)].entries[id.labels] = Entry(series: series, references: 1)
    return .kept(series)
  }

  /// One instrument less; with the last one the series goes, and with the last series the family.
  mutating func release(_ series: any Series) {
    let id = series.id
    guard let kind = families[id.family]?.kind, let entry = families[id.family]?.entries[id.labels],
      entry.series === series
    else { return }
    guard entry.references == 1 else {
      families[id.family]?.entries[id.labels]?.references -= 1
      return
    }
    count -= 1
    families[id.family]?.entries[id.labels] = nil
    if families[id.family]?.entries.isEmpty == true {
      families[id.family] = nil
      lineNames.subtract(SeriesRegistry.lineNames(id.family, kind))
    }
  }

  private mutating func conflict(_ name: String) -> Answer {
    // Names come from code and are few; this bounds what a program could do that makes them up.
    let isNews = reported.count < 1000 && reported.insert(name).inserted
    return .refused("the name belongs to another kind of metric", isNews: isNews)
  }

  /// A histogram writes lines of three names, and keeps its own.
  private static func lineNames(_ family: String, _ kind: PrometheusText.Kind) -> Set<String> {
    kind == .histogram ? [family, family + "_bucket", family + "_sum", family + "_count"] : [family]
  }

  /// All families, to be written without holding the lock.
  var snapshot: [FamilySnapshot] {
    families.map { name, family in
      let series = family.entries
      return FamilySnapshot(name, family.kind) { text in
        for (_, entry) in series.sorted(by: { $0.key < $1.key }) { entry.series.write(to: &text) }
      }
    }
  }
}

/// A family and how its lines are written.
struct FamilySnapshot {
  var name: String
  var kind: PrometheusText.Kind
  var help: String
  var write: (inout PrometheusText) -> Void

  init(name: String, kind: PrometheusText.Kind, help: String, write: @escaping (inout PrometheusText) -> Void)
  {
    self.name = name
    self.kind = kind
    self.help = help
    self.write = write
  }

  /// One whose help text `MetricFamilies` knows.
  init(_ name: String, _ kind: PrometheusText.Kind, _ write: @escaping (inout PrometheusText) -> Void) {
    self.init(name: name, kind: kind, help: MetricFamilies.help(name), write: write)
  }
}
