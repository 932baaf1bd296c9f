import FoundationEssentials
import MagicalaneCore

/// The config as a whole, and its entries one by one.
extension AdminAPI {
  static let yamlType = "application/yaml"
  static let mergePatchType = "application/merge-patch+json"
  /// Bodies of one resource in two forms have two tags (RFC 9110 §8.8.3.3); a writer may name either.
  private static let yamlTagSuffix = ".yaml"

  func addConfig(to router: inout Router) {
    let path = "/v1/config"
    router.on("GET", path) { request, _ in
      _ = try Query(request)
      let type = try request.preferredType(of: [JSONBody.mediaType, AdminAPI.yamlType])
      let shown = await live.shown
      if type == JSONBody.mediaType {
        return try request.answer(.json(shown.node, for: request), tag: shown.tag)
      }
      return try request.answer(
        AdminResponse(contentType: type, body: Array(shown.yaml.utf8)),
        tag: shown.tag + AdminAPI.yamlTagSuffix
      )
    }
    router.on("PUT", path) { request, _ in
      try await change(.replace(try request.configText()), for: request)
    }
    router.on("POST", "\(path)/rollback") { request, _ in
      try await change(.rollback, for: request)
    }
    router.on("POST", "\(path)/reload") { request, _ in
      try await change(.reload, for: request)
    }
  }

  func addEntries(of section: ConfigSection, to router: inout Router) {
    let path = "/v1/\(section.rawValue)"
    let item = "\(path)/{name}"
    router.on("GET", path) { request, _ in
      _ = try Query(request)
      return try .json([section.rawValue: await entries(of: section)], for: request)
    }
    router.on("GET", item) { request, parameters in
      _ = try Query(request)
      let name = try AdminAPI.name(parameters)
      guard let shown = await live.shown(name, in: section) else {
        throw Problem(ConfigChangeError.notFound(section, name))
      }
      let body = EntryBody(entry: shown.node, status: await entryStatus(name, in: section))
      return try request.answer(.json(body, for: request), tag: shown.tag)
    }
    router.on("PUT", item) { request, parameters in
      let name = try AdminAPI.name(parameters)
      return try await change(.put(section, name: name, try request.configText()), for: request)
    }
    router.on("PATCH", item) { request, parameters in
      let name = try AdminAPI.name(parameters)
      _ = try request.contentType(oneOf: [AdminAPI.mergePatchType])
      let text = ConfigText(try request.bodyText(), .json)
      return try await change(.patch(section, name: name, text), for: request)
    }
    router.on("DELETE", item) { request, parameters in
      try await change(.delete(section, name: try AdminAPI.name(parameters)), for: request)
    }
  }

  private static func name(_ parameters: Router.Parameters) throws -> String {
    // Every pattern that comes here has it.
    guard let name = parameters["name"] else { throw Problem(404) }
    return name
  }

  // MARK: Entries

  private func entries(of section: ConfigSection) async -> [EntryBody<AnyStatus>] {
    var bodies: [EntryBody<AnyStatus>] = []
    for (name, status) in await statuses(of: section) {
      guard let shown = await live.shown(name, in: section) else { continue }
      bodies.append(EntryBody(entry: shown.node, status: status))
    }
    return bodies
  }

  private func entryStatus(_ name: String, in section: ConfigSection) async -> AnyStatus? {
    await statuses(of: section).first { $0.name == name }?.status
  }

  private func statuses(of section: ConfigSection) async -> [(name: String, status: AnyStatus)] {
    switch section {
    case .frontends:
      await runtime.frontendStatuses.map { ($0.name, .frontend(FrontendStatusBody(status: $0))) }
    case .transports:
      await runtime.transportStatuses.map { ($0.name, .transport(TransportStatusBody(status: $0))) }
    }
  }

  private enum AnyStatus: Encodable {
    case frontend(FrontendStatusBody)
    case transport(TransportStatusBody)

    func encode(to encoder: any Encoder) throws {
      switch self {
      case .frontend(let status): try status.encode(to: encoder)
      case .transport(let status): try status.encode(to: encoder)
      }
    }
  }

  // MARK: Changes

  private func change(_ edit: ConfigEdit, for request: AdminRequest) async throws -> AdminResponse {
    _ = try request.preferredType(of: [JSONBody.mediaType])
    let query = try Query(request, "dry_run", "persist")
    let options = ConfigChangeOptions(
      precondition: try precondition(request),
      isDryRun: try query.flag("dry_run"),
      persists: try query.flag("persist")
    )
    let change: ConfigChange
    do {
      change = try await live.change(edit, options)
    } catch {
      throw Problem(error)
    }
    var headers: HTTPFields = ["ETag": EntityTag(change.entryTag ?? change.tag).field]
    if case .delete = edit { headers = [:] }
    let isCreated = change.isNewEntry && !change.isDryRun
    if isCreated { headers["Location"] = request.target.path }
    return try .json(
      ChangeBody(change: change),
      for: request,
      status: isCreated ? 201 : 200,
      headers: headers
    )
  }

  private func precondition(_ request: AdminRequest) throws -> ConfigPrecondition {
    let match = try request.ifMatch()
    let noneMatch = try request.ifNoneMatch()
    switch (match, noneMatch) {
    case (nil, nil): return .none
    case (.any?, nil): return .exists
    case (nil, .any?): return .absent
    case (.tags(let tags)?, nil):
      // Only strong tags count (RFC 9110 §13.1.1).
      return .matches(Set(tags.filter { !$0.isWeak }.map { $0.value.without(suffix: Self.yamlTagSuffix) }))
    case (_?, .any?):
      // What is there and is not there at once (RFC 9110 §13.2.2).
      throw Problem(ConfigChangeError.preconditionFailed)
    default:
      throw Problem(400, detail: "a change takes If-Match or 'If-None-Match: *', and no tags in the latter")
    }
  }
}

extension String {
  fileprivate func without(suffix: String) -> String {
    hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
  }
}

extension AdminRequest {
  /// The body as config.
  ///
  /// - Throws: 415 where it is neither YAML nor JSON, 400 where it is no UTF-8.
  fileprivate func configText() throws(Problem) -> ConfigText {
    let known = [AdminAPI.yamlType, JSONBody.mediaType, "text/yaml", "application/x-yaml"]
    let type = try contentType(oneOf: known)
    return ConfigText(try bodyText(), type.essence == JSONBody.mediaType ? .json : .yaml)
  }

  fileprivate func bodyText() throws(Problem) -> String {
    guard let text = String(validating: body, as: UTF8.self) else {
      throw Problem(400, detail: "the body is not UTF-8 text")
    }
    return text
  }
}
