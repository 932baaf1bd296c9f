import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// Why the admin API did not do what was asked for.
enum AdminClientError: Error {
  case cannotConnect(reason: String)
  case timedOut(TimeAmount)
  case brokenOff(reason: String)
  /// The body has more bytes than this.
  case tooLong(Int)
  /// The answer does not have the shape that the API gives it.
  case unexpected(reason: String)
  /// The answer has a status that is not 2xx.
  case refused(AdminAnswer)

  /// - Parameter error: as `ClientBootstrap` gave it.
  init(connecting error: any Error) {
    self = .cannotConnect(reason: Self.reason(of: error))
  }

  /// An error of the network in a few words.
  static func reason(of error: any Error) -> String {
    switch error {
    case let error as NIOConnectionError:
      if let first = error.connectionErrors.first { return reason(of: first.error) }
      return "the name '\(error.host)' cannot be resolved"
    case let error as IOError:
      // strerror never gives a null pointer, whatever the number.
      return String(cString: strerror(error.errnoCode)).lowercased()
    case ChannelError.connectTimeout:
      return "nobody answers"
    case is HTTPParserError:
      return "what came is no HTTP"
    default:
      return "\(error)"
    }
  }

  /// What a person at a terminal is told.
  ///
  /// - Parameters:
  ///   - address: where the request was sent.
  ///   - hasToken: whether a token was sent with it.
  func message(_ address: AdminAddress, hasToken: Bool) -> String {
    switch self {
    case .cannotConnect(let reason):
      """
      cannot reach the admin API at \(address): \(reason.printable)
      Is magicalane running there, and does its config have 'admin: {listen: "\(address)"}'?
      Another address is given with --admin HOST:PORT or --admin unix:/PATH.
      """
    case .timedOut(let time):
      "the admin API at \(address) did not answer within \(time.nanoseconds / 1_000_000_000) s"
    case .brokenOff(let reason):
      "the admin API at \(address) broke its answer off: \(reason.printable)"
    case .tooLong(let limit):
      "the answer of \(address) is longer than \(limit >> 20) MiB; is it magicalane that listens there?"
    case .unexpected(let reason):
      "the answer of \(address) is not that of an admin API: \(reason.printable)"
    case .refused(let answer) where answer.status == .unauthorized:
      hasToken
        ? "the admin API at \(address) does not take this token; its config has the right one at 'admin: token'"
        : """
        the admin API at \(address) asks for a token
        Give it with --token-file FILE or in the environment as \(AdminOptions.tokenVariable).
        """
    case .refused(let answer):
      if let problem = AdminProblem(answer) {
        problem.lines.joined(separator: "\n")
      } else {
        "\(address) answered \(answer.status.code) \(answer.status.reasonPhrase.printable); "
          + "is it magicalane that listens there?"
      }
    }
  }
}

/// A refusal as the API words it (RFC 9457).
struct AdminProblem: Decodable, Equatable {
  /// One of the things that are wrong.
  struct Fault: Decodable, Equatable {
    var detail: String
    /// A JSON pointer into what was sent.
    var pointer: String?
    /// A JSON pointer into the whole config.
    var configPointer: String?
    var line: Int?
    var column: Int?

    /// `LINE:COLUMN: detail (pointer)`; a detail that says its place itself is left as it is.
    var text: String {
      guard !saysItsPlace else { return detail.printable }
      let place = line.map { line in column.map { "\(line):\($0): " } ?? "\(line): " } ?? ""
      let pointer = (pointer ?? configPointer).map { " (\($0))" } ?? ""
      return "\(place)\(detail)\(pointer)".printable
    }

    /// Whether the detail starts with `FILE:LINE:COLUMN:`.
    private var saysItsPlace: Bool {
      detail.prefixMatch(of: #/[^\n]+?:\d+:\d+: /#) != nil
    }
  }

  var title: String?
  var detail: String?
  var step: String?
  var errors: [Fault]?

  /// Nil where the answer is no problem document.
  init?(_ answer: AdminAnswer) {
    guard answer.contentType?.lowercased().hasPrefix("application/problem+json") ?? false else { return nil }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let problem = try? decoder.decode(Self.self, from: Data(answer.body.readableBytesView)) else {
      return nil
    }
    self = problem
  }

  init(title: String? = nil, detail: String? = nil, step: String? = nil, errors: [Fault]? = nil) {
    self.title = title
    self.detail = detail
    self.step = step
    self.errors = errors
  }

  /// The title with the step, then what is wrong, each on a line of its own; nothing is said twice.
  var lines: [String] {
    let heading = "\(title ?? "refused")\(step.map { " (step: \($0))" } ?? "")"
    let faults = errors ?? []
    let said = Set(faults.map(\.detail) + [title ?? ""])
    // A detail may be the first fault and how many there are besides.
    let details = (detail ?? "").split(separator: "\n").map(String.init)
      .filter { !said.contains($0.replacing(#/ \(and \d+ more\)$/#, with: "")) }
    // The detail may name the file as well: `FILE:LINE:COLUMN: ` and then the fault.
    let others = faults.filter { fault in !details.contains { $0.hasSuffix(": \(fault.detail)") } }
    return [heading.printable] + details.map(\.printable) + others.map(\.text)
  }
}
