/// Finds the handler of a request by its path and method.
///
/// A pattern is a path whose segments stand for themselves or, as `{name}`, for any one segment. Where two
/// patterns fit, the one with the earlier literal wins, so `/v1/config/rollback` goes before `/v1/config/{x}`.
struct Router: Sendable {
  /// What the segments in braces matched, decoded.
  typealias Parameters = [String: String]
  /// Answers a request. A `Problem` that it throws becomes the answer; any other error a 500 without detail.
  typealias Handler = @Sendable (AdminRequest, Parameters) async throws -> AdminResponse

  /// One path and what it answers to.
  struct Route: Sendable, Equatable {
    /// `/v1/sessions/{id}`
    var pattern: String
    /// Sorted, without the HEAD that each GET brings.
    var methods: [String]
  }

  private struct Entry: Sendable {
    var pattern: String
    var segments: [Segment]
    var handlers: [String: Handler] = [:]
  }

  private enum Segment: Sendable, Equatable {
    case literal(String)
    case parameter(String)
  }

  private var entries: [Entry] = []

  init() {}

  /// One more row of the table; a second one for the same method and pattern replaces the first.
  mutating func on(_ method: String, _ pattern: String, _ handler: @escaping Handler) {
    if let index = entries.firstIndex(where: { $0.pattern == pattern }) {
      entries[index].handlers[method] = handler
    } else {
      let segments = pattern.split(separator: "/").map { part -> Segment in
        part.hasPrefix("{") && part.hasSuffix("}")
          ? .parameter(String(part.dropFirst().dropLast())) : .literal(String(part))
      }
      entries.append(Entry(pattern: pattern, segments: segments, handlers: [method: handler]))
    }
  }

  /// All rows, in their order.
  var routes: [Route] {
    entries.map { Route(pattern: $0.pattern, methods: $0.handlers.keys.sorted()) }
  }

  /// The pattern that a request falls under, which is a bounded label for metrics; nil where none does.
  func pattern(of request: AdminRequest) -> String? {
    match(request.segments)?.entry.pattern
  }

  /// Answers a request, with 404 for an unknown path and 405 for a method that the path does not have.
  func respond(to request: AdminRequest) async -> AdminResponse {
    do {
      let (handler, parameters) = try handler(for: request)
      return try await handler(request, parameters)
    } catch let problem as Problem {
      return AdminResponse(problem)
    } catch {
      return AdminResponse(Problem(500))
    }
  }

  /// The handler of a request.
  func handler(for request: AdminRequest) throws(Problem) -> (handler: Handler, parameters: Parameters) {
    guard let (entry, parameters) = match(request.segments) else {
      throw Problem(404, detail: "there is nothing at \(request.target.path)")
    }
    let method = request.method == "HEAD" && entry.handlers["HEAD"] == nil ? "GET" : request.method
    guard let handler = entry.handlers[method] else {
      let allow = Self.allow(entry.handlers.keys)
      throw Problem(
        405,
        detail: "\(request.target.path) does not take \(request.method)",
        headers: ["Allow": allow]
      )
    }
    return (handler, parameters)
  }

  private static func allow(_ methods: some Sequence<String>) -> String {
    var all = Set(methods)
    if all.contains("GET") { all.insert("HEAD") }
    return all.sorted().joined(separator: ", ")
  }

  private func match(_ segments: [String]) -> (entry: Entry, parameters: Parameters)? {
    let fitting = entries.filter { Self.fits($0.segments, segments) }
    guard let best = fitting.min(by: { Self.precedes($0.segments, $1.segments) }) else { return nil }
    var parameters = Parameters()
    for case (.parameter(let name), let value) in zip(best.segments, segments) { parameters[name] = value }
    return (best, parameters)
  }

  private static func fits(_ pattern: [Segment], _ segments: [String]) -> Bool {
    pattern.count == segments.count
      && zip(pattern, segments).allSatisfy { part, text in
        switch part {
        case .literal(let expected): expected == text
        case .parameter: !text.isEmpty
        }
      }
  }

  private static func precedes(_ one: [Segment], _ other: [Segment]) -> Bool {
    for (mine, theirs) in zip(one, other) {
      switch (mine, theirs) {
      case (.literal, .parameter): return true
      case (.parameter, .literal): return false
      default: continue
      }
    }
    return false
  }
}
