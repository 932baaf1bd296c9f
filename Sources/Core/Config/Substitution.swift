/// The text of one scalar with each `${NAME}` replaced from the environment.
///
/// A name is a letter or `_`, then letters, digits and `_`. `$${` stands for the two characters `${`; any other
/// `$` stands for itself.
struct Substitution {
  enum Fault: Equatable {
    /// The environment does not have it.
    case missing(String)
    /// `${` without a name and a `}` behind it.
    case malformed
  }

  private(set) var text = ""
  private(set) var faults: [Fault] = []

  init(_ written: String, environment: [String: String]) {
    var rest = written[...]
    while let dollar = rest.firstIndex(of: "$") {
      text += rest[..<dollar]
      rest = rest[dollar...]
      if rest.hasPrefix("$${") {
        text += "${"
        rest = rest.dropFirst(3)
      } else if rest.hasPrefix("${") {
        rest = replace(rest.dropFirst(2), environment)
      } else {
        text += "$"
        rest = rest.dropFirst()
      }
    }
    text += rest
  }

  /// - Returns: what follows the reference.
  private mutating func replace(_ reference: Substring, _ environment: [String: String]) -> Substring {
    guard let end = reference.firstIndex(of: "}"), isName(reference[..<end]) else {
      faults.append(.malformed)
      return ""
    }
    let name = String(reference[..<end])
    if let value = environment[name] {
      text += value
    } else {
      faults.append(.missing(name))
    }
    return reference[reference.index(after: end)...]
  }

  private func isName(_ name: Substring) -> Bool {
    guard let first = name.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      return false
    }
    return name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
      default: false
      }
    }
  }
}
