/// Lines of text in columns, two spaces between them.
///
/// Cells are made printable here, so that none can be forgotten.
struct TextTable: Equatable {
  struct Column: Equatable {
    enum Alignment {
      case left, right
    }
    var title: String
    var alignment = Alignment.left
    /// Whether its texts are cut where the table is too wide.
    var isElastic = false

    static func text(_ title: String) -> Column { Column(title: title) }
    static func number(_ title: String) -> Column { Column(title: title, alignment: .right) }
    static func elastic(_ title: String) -> Column { Column(title: title, isElastic: true) }
  }

  /// No elastic column gets narrower.
  private static let narrowest = 8

  let columns: [Column]
  private(set) var rows: [[String]] = []

  init(_ columns: [Column]) {
    self.columns = columns
  }

  /// - Parameter cells: one for each column; a missing one is empty, one too many is left out.
  mutating func append(_ cells: [String]) {
    rows.append(columns.indices.map { $0 < cells.count ? cells[$0].printable : "" })
  }

  /// The titles and the rows; no line is wider than `width` columns, where it is given.
  func lines(width: Int? = nil) -> [String] {
    let widths = widths(fitting: width)
    return ([columns.map(\.title)] + rows).map { cells in
      let line = columns.indices.map { padded(cells[$0], columns[$0].alignment, widths[$0]) }
        .joined(separator: "  ").trimmingTrailingSpaces
      return width.map { line.clipped(to: $0) } ?? line
    }
  }

  /// As wide as the widest cell each; then the widest elastic ones give way, one column of the terminal a time.
  private func widths(fitting limit: Int?) -> [Int] {
    var widths = columns.indices.map { index in
      rows.reduce(columns[index].title.columns) { max($0, $1[index].columns) }
    }
    guard let limit else { return widths }
    let elastic = columns.indices.filter { columns[$0].isElastic }
    let gaps = 2 * max(columns.count - 1, 0)
    while widths.reduce(gaps, +) > limit {
      let shrinkable = elastic.filter { widths[$0] > max(Self.narrowest, columns[$0].title.columns) }
      guard let widest = shrinkable.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    return widths
  }

  private func padded(_ text: String, _ alignment: Column.Alignment, _ width: Int) -> String {
    let text = text.clipped(to: width)
    let space = String(repeating: " ", count: max(width - text.columns, 0))
    return alignment == .left ? text + space : space + text
  }
}

extension String {
  fileprivate var trimmingTrailingSpaces: String {
    String(self[..<(lastIndex { $0 != " " }.map(index(after:)) ?? startIndex)])
  }
}
