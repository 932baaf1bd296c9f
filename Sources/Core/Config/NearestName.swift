extension String {
  /// The one of `names` that was most likely meant, if any is near: at most one edit for each three letters
  /// and at least one, where a swap of neighbours is one edit.
  package func nearest(among names: some Collection<String>) -> String? {
    let limit = Swift.max(1, (count + 2) / 3)
    let ranked = names.filter { abs($0.count - count) <= limit }
      .map { (name: $0, distance: edits(to: $0)) }
      .filter { $0.distance <= limit && $0.distance < max(count, $0.name.count) }
    return ranked.min { ($0.distance, $0.name) < ($1.distance, $1.name) }?.name
  }

  /// Optimal string alignment distance, letter case ignored.
  private func edits(to other: String) -> Int {
    let mine = Array(lowercased().prefix(64))
    let theirs = Array(other.lowercased().prefix(64))
    var beforeLast = [Int]()
    var last = Array(0...theirs.count)
    for row in 0..<mine.count {
      var current = [row + 1]
      for column in 0..<theirs.count {
        let same = mine[row] == theirs[column]
        var best = Swift.min(last[column] + (same ? 0 : 1), last[column + 1] + 1, current[column] + 1)
        if row > 0, column > 0, mine[row] == theirs[column - 1], mine[row - 1] == theirs[column] {
          best = Swift.min(best, beforeLast[column - 1] + 1)
        }
        current.append(best)
      }
      (beforeLast, last) = (last, current)
    }
    return last[theirs.count]
  }
}

/// "expected one of …, found …; did you mean …?"
func expectation(oneOf choices: [String], found: ConfigValue, word: String? = nil) -> String {
  let sorted = choices.sorted()
  let shown = word?.quotedForMessage ?? found.found
  let expected = "expected one of \(sorted.joined(separator: ", ")), found \(shown)"
  guard let word = word ?? found.scalar?.written, let near = word.nearest(among: sorted) else {
    return expected
  }
  return "\(expected); did you mean '\(near)'?"
}
