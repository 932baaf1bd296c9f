import FoundationEssentials
import MagicalaneCore

/// Whether it lives, what it is, what it counts, and how to speak with it.
extension AdminAPI {
  func addStatus(to router: inout Router) {
    router.on("GET", "/healthz") { request, _ in
      _ = try Query(request)
      return try .json(HealthBody(status: "alive"), for: request)
    }
    router.on("GET", "/readyz") { request, _ in
      _ = try Query(request)
      let reasons = await live.reasonsNotReady
      let body = HealthBody(status: reasons.isEmpty ? "ready" : "not_ready", reasons: reasons)
      return try .json(body, for: request, status: reasons.isEmpty ? 200 : 503)
    }
    router.on("GET", "/metrics") { request, _ in
      _ = try Query(request)
      _ = try request.preferredType(of: ["text/plain"])
      return AdminResponse(contentType: PrometheusExporter.contentType, body: Array(metrics.text().utf8))
    }
    router.on("GET", "/openapi.yaml") { request, _ in
      _ = try Query(request)
      _ = try request.preferredType(of: [AdminAPI.yamlType, "text/yaml", "text/plain"])
      return try request.answer(
        AdminResponse(contentType: AdminAPI.yamlType, body: PackageResources.openapi_yaml),
        tag: AdminAPI.contractTag
      )
    }
    router.on("GET", "/v1/status") { request, _ in
      _ = try Query(request)
      return try .json(await status, for: request)
    }
  }

  /// Of the contract's text (FNV-1a).
  private static let contractTag = String(
    PackageResources.openapi_yaml.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { hash, byte in
      (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    },
    radix: 16
  )

  private var status: StatusBody {
    get async {
      let runtime = await runtime.status
      let applied = await live.current
      let tag = await live.tag
      return StatusBody(
        version: version,
        started: started,
        uptimeSeconds: max(0, Date.now.timeIntervalSince(started)),
        state: runtime.isDraining ? "draining" : "running",
        config: applied.map {
          .init(
            generation: $0.generation,
            origin: $0.origin,
            applied: $0.time,
            source: live.source.name,
            tag: tag
          )
        },
        sessions: runtime.sessions,
        frontends: runtime.frontends,
        transports: runtime.transports,
        retiring: runtime.retiring,
        eventLoops: runtime.eventLoops,
        memory: .init(limit: runtime.memory.limit, used: runtime.memory.used)
      )
    }
  }

  func addLogLevel(to router: inout Router) {
    router.on("GET", "/v1/log-level") { request, _ in
      _ = try Query(request)
      return try .json(LogLevelBody(level: logLevel.get()), for: request)
    }
    router.on("PUT", "/v1/log-level") { request, _ in
      _ = try Query(request)
      _ = try request.preferredType(of: [JSONBody.mediaType])
      _ = try request.contentType(oneOf: [JSONBody.mediaType])
      let body = try LogLevelBody(request)
      guard logLevel.set(body.level) else {
        let expected = "expected one of trace, debug, info, notice, warning, error, critical"
        throw Problem.invalid("'level': \(expected), found '\(body.level)'", at: ["level"])
      }
      return try .json(LogLevelBody(level: logLevel.get()), for: request)
    }
  }
}

extension LogLevelBody {
  /// - Throws: 400 for what is no JSON, 422 for what is no such object.
  fileprivate init(_ request: AdminRequest) throws(Problem) {
    let decoder = JSONDecoder()
    do {
      let members = try decoder.decode([String: String].self, from: Data(request.body))
      if let other = members.keys.filter({ $0 != "level" }).min() {
        throw Problem.invalid("unknown key '\(other)'; known keys: level", at: [other])
      }
      guard let level = members["level"] else { throw Problem.invalid("'level' is missing", at: []) }
      self.init(level: level)
    } catch let problem as Problem {
      throw problem
    } catch DecodingError.dataCorrupted {
      throw Problem(400, detail: "the body is not valid JSON")
    } catch {
      throw Problem.invalid("expected an object such as {\"level\": \"info\"}", at: [])
    }
  }
}

extension AdminRequest {
  /// Adds the tag to an answer, or says that the client has it already.
  func answer(_ response: AdminResponse, tag: String) throws(Problem) -> AdminResponse {
    let tag = EntityTag(tag)
    if try ifNoneMatch()?.matchesWeakly(tag) == true {
      return AdminResponse(status: 304, headers: ["ETag": tag.field])
    }
    var response = response
    response.headers["ETag"] = tag.field
    return response
  }
}
