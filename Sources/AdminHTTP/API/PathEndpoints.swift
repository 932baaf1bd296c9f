import FoundationEssentials
import MagicalaneCore

/// What a transport that chooses knows of its members, and what it chose.
extension AdminAPI {
  private static let usualDecisions = 50
  private static let mostDecisions = 256

  func addPaths(to router: inout Router) {
    router.on("GET", "/v1/transports/{name}/paths") { request, parameters in
      _ = try Query(request)
      _ = try request.preferredType(of: [JSONBody.mediaType])
      let transport = try await choosing(parameters)
      return try .json(PathsBody(time: .now, paths: transport.paths), for: request)
    }
    router.on("GET", "/v1/transports/{name}/decisions") { request, parameters in
      let query = try Query(request, "limit")
      let limit = try query.integer(
        "limit",
        in: 1...Self.mostDecisions,
        default: Self.usualDecisions
      )
      _ = try request.preferredType(of: [JSONBody.mediaType])
      let transport = try await choosing(parameters)
      return try .json(DecisionsBody(decisions: transport.decisions(limit: limit)), for: request)
    }
  }

  private func choosing(_ parameters: Router.Parameters) async throws(Problem) -> any ChoosingTransport {
    let name = parameters["name"] ?? ""
    guard let transport = await runtime.choosingTransport(name) else {
      let isThere = await runtime.transportStatuses.contains { $0.name == name }
      throw Problem(
        404,
        detail: isThere
          ? "transport '\(name)' has no members to choose from" : "there is no transport '\(name)'"
      )
    }
    return transport
  }
}

/// The members of one transport, in the order of the config.
struct PathsBody: Encodable {
  var time: Date
  var paths: [PathStatus]
}

/// What one transport chose, newest first.
struct DecisionsBody: Encodable {
  var decisions: [Decision]
}
