import Testing

@testable import MagicalaneAdminHTTP

private func request(_ method: String, _ target: String) throws -> AdminRequest {
  AdminRequest(method: method, target: try #require(RequestTarget(target)))
}

private func router() -> Router {
  var router = Router()
  for (method, pattern) in [
    ("GET", "/v1/config"), ("PUT", "/v1/config"), ("POST", "/v1/config/rollback"),
    ("GET", "/v1/sessions/{id}"), ("DELETE", "/v1/sessions/{id}"), ("GET", "/v1/{kind}/all"), ("GET", "/"),
  ] {
    router.on(method, pattern) { _, parameters in
      let shown = parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      return AdminResponse(
        contentType: "text/plain",
        body: Array("\(method) \(pattern) \(shown.joined())".utf8)
      )
    }
  }
  return router
}

private func text(_ response: AdminResponse) -> String {
  guard case .bytes(let bytes) = response.body else { return "stream" }
  return String(decoding: bytes, as: UTF8.self)
}

@Test(arguments: [
  ("GET", "/v1/config", "GET /v1/config "), ("PUT", "/v1/config?dry_run=true", "PUT /v1/config "),
  ("GET", "/v1/sessions/a%2Fb", "GET /v1/sessions/{id} id=a/b"), ("GET", "/", "GET / "),
  ("GET", "/v1/sessions/all", "GET /v1/sessions/{id} id=all"),
  ("GET", "/v1/transports/all", "GET /v1/{kind}/all kind=transports"),
  ("HEAD", "/v1/config", "GET /v1/config "),
])
func `a request finds its handler`(method: String, target: String, answer: String) async throws {
  #expect(text(await router().respond(to: try request(method, target))) == answer)
}

@Test(arguments: ["/v2", "/v1/config/", "/v1//config", "/v1/sessions/", "/v1/sessions/1/2", "/V1/config"])
func `an unknown path is 404`(target: String) async throws {
  #expect(await router().respond(to: try request("GET", target)).status == 404)
}

@Test(arguments: [
  ("OPTIONS", "/v1/config", "GET, HEAD, PUT"), ("GET", "/v1/config/rollback", "POST"),
  ("HEAD", "/v1/config/rollback", "POST"), ("PATCH", "/v1/sessions/1", "DELETE, GET, HEAD"),
  ("get", "/v1/config", "GET, HEAD, PUT"),
])
func `a method that a path does not have is 405 with those it has`(
  method: String,
  target: String,
  allow: String
) async throws {
  let response = await router().respond(to: try request(method, target))
  #expect(response.status == 405)
  #expect(response.headers["allow"] == allow)
}

@Test func `the table of routes can be listed`() {
  #expect(router().routes.first == Router.Route(pattern: "/v1/config", methods: ["GET", "PUT"]))
  #expect(router().routes.count == 5)
}

@Test func `a thrown problem is the answer, and any other error a 500 that tells nothing`() async throws {
  struct Secret: Error {}
  var router = Router()
  router.on("GET", "/a") { _, _ in throw Problem(412) }
  router.on("GET", "/b") { _, _ in throw Secret() }
  #expect(await router.respond(to: try request("GET", "/a")).status == 412)
  let response = await router.respond(to: try request("GET", "/b"))
  #expect(response.status == 500)
  #expect(!text(response).contains("Secret"))
}

@Test func `the pattern of a request is its label`() throws {
  #expect(router().pattern(of: try request("GET", "/v1/sessions/9")) == "/v1/sessions/{id}")
  #expect(router().pattern(of: try request("GET", "/x")) == nil)
}
