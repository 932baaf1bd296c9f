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
    /// Its texts may be cut to so many columns of a terminal that is too narrow; nil where they never are.
    var narrowest: Int?
    /// Left out where the terminal is narrower still, the highest first; 0 stays.
    var expendability = 0

    static func text(_ title: String, expendability: Int = 0) -> Column {
      Column(title: title, expendability: expendability)
    }

    static func number(_ title: String, expendability: Int = 0) -> Column {
      Column(title: title, alignment: .right, expendability: expendability)
    }

    static func elastic(_ title: String, narrowest: Int, expendability: Int = 0) -> Column {
      Column(title: title, narrowest: narrowest, expendability: expendability)
    }
  }

  let columns: [Column]
  private(set) var rows: [[String]] = []

  init(_ columns: [Column]) {
    self.columns = columns
  }

  /// - Parameter cells: one for each column; a missing one is empty, one too many is left out.
  mutating func append(_ cells: [String]) {
    rows.append(columns.indices.map { $0 < cells.count ? cells[$0].printable : "" })
  }

  /// The titles and the rows; no line is wider than `limit` columns, where it is given.
  func lines(width limit: Int? = nil) -> [String] {
    let layout = layout(limit)
    return ([columns.map(\.title)] + rows).map { cells in
      let line = layout.map { padded(cells[$0.index], columns[$0.index].alignment, $0.width) }
        .joined(separator: "  ").trimmingTrailingSpaces
      return limit.map { line.clipped(to: $0) } ?? line
    }
  }

  private typealias Layout = [(index: Int, width: Int)]

  /// Which columns are shown, and how wide: as their widest cells. Where that does not fit, expendable columns
  /// go until the narrowest form does; then the widest elastic ones give way, a column of the terminal a time.
  private func layout(_ limit: Int?) -> Layout {
    var layout: Layout = columns.indices.map { index in
      (index, rows.reduce(columns[index].title.columns) { max($0, $1[index].columns) })
    }
    guard let limit else { return layout }
    while total(layout.map { narrowest($0.index, $0.width) }) > limit,
      let first = layout.max(by: { columns[$0.index].expendability < columns[$1.index].expendability }),
      columns[first.index].expendability > 0
    {
      layout.removeAll { $0.index == first.index }
    }
    while total(layout.map(\.width)) > limit {
      let shrinkable = layout.indices.filter {
        layout[$0].width > narrowest(layout[$0].index, layout[$0].width)
      }
      guard let widest = shrinkable.max(by: { layout[$0].width < layout[$1].width }) else { break }
      layout[widest].width -= 1
    }
    return layout
  }

  private func narrowest(_ index: Int, _ width: Int) -> Int {
    columns[index].narrowest.map { min(width, max($0, columns[index].title.columns)) } ?? width
  }

  private func total(_ widths: [Int]) -> Int {
    widths.reduce(2 * max(widths.count - 1, 0), +)
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
