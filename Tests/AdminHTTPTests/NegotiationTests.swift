import Testing

@testable import MagicalaneAdminHTTP

private func request(_ method: String = "GET", _ headers: HTTPFields) throws -> AdminRequest {
  AdminRequest(method: method, target: try #require(RequestTarget("/")), headers: headers)
}

private let offered = ["application/json", "application/yaml"]

@Test(
  arguments: [
    (nil, "application/json"),
    ("", "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/yaml", "application/yaml"),
    ("Application/YAML", "application/yaml"),
    ("application/json;q=0.5, application/yaml", "application/yaml"),
    ("application/json;q=0, */*;q=0.1", "application/yaml"),
    ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
    ("application/yaml;q=0.2, application/*;q=0.9", "application/json"),
    (#"text/x;a="b,c;d", application/yaml"#, "application/yaml"),
  ] as [(String?, String)]
)
func `the offer that Accept likes best is taken`(accept: String?, expected: String) throws {
  var headers = HTTPFields()
  headers["Accept"] = accept
  #expect(try request("GET", headers).preferredType(of: offered) == expected)
}

@Test(arguments: [
  ("text/html", 406), ("application/json;q=0, application/yaml;q=0.0", 406),
  ("application/json;v=2", 406), ("nonsense", 400), ("a/b;q=2", 400), ("a/b;q=x", 400), ("a/b/c", 400),
])
func `an Accept that nothing fits gets 406 and a malformed one 400`(accept: String, status: Int) throws {
  let request = try request("GET", ["Accept": accept])
  let problem = #expect(throws: Problem.self) { try request.preferredType(of: offered) }
  #expect(problem?.status == status)
}

@Test func `a known Content-Type is read with its parameters`() throws {
  let type = try request("PUT", ["Content-Type": "Application/JSON; Charset=\"UTF-8\""])
    .contentType(oneOf: offered)
  #expect(type.essence == "application/json")
  #expect(type.parameters == [.init(name: "charset", value: "UTF-8")])
}

@Test(
  arguments: [
    ("PUT", "text/plain", "Accept"), ("PATCH", "application/json", "Accept-Patch"), ("PUT", nil, "Accept"),
    ("PUT", "application/merge-patch+json; charset=latin1", "Accept"),
  ] as [(String, String?, String)]
)
func `another Content-Type gets 415 with what would be right`(
  method: String,
  type: String?,
  field: String
) throws {
  var headers = HTTPFields()
  headers["Content-Type"] = type
  let request = try request(method, headers)
  let problem = #expect(throws: Problem.self) {
    try request.contentType(oneOf: ["application/merge-patch+json"])
  }
  #expect(problem?.status == 415)
  #expect(problem?.headers[field] == "application/merge-patch+json")
}

@Test func `entity tags are read strong, weak and in lists`() {
  #expect(EntityTagCondition(field: " * ") == .any)
  #expect(EntityTagCondition(field: #""a""#) == .tags([EntityTag("a")]))
  #expect(
    EntityTagCondition(field: #"W/"a,b" ,, "c\""#)
      == .tags([EntityTag("a,b", isWeak: true), EntityTag("c\\")])
  )
  #expect(EntityTag("a", isWeak: true).field == #"W/"a""#)
}

@Test(arguments: ["", ",", "a", "\"a", "w/\"a\"", "\"a\" \"b\"", "*, \"a\"", "\"a b\""])
func `malformed entity tags get 400`(field: String) throws {
  let request = try request("PUT", ["If-Match": field, "If-None-Match": field])
  #expect(throws: Problem.self) { try request.ifMatch() }
  let problem = #expect(throws: Problem.self) { try request.ifNoneMatch() }
  #expect(problem?.status == 400)
}

@Test func `If-Match compares strongly and If-None-Match weakly`() throws {
  let condition = try #require(EntityTagCondition(field: #"W/"a", "b""#))
  #expect(!condition.matchesStrongly(EntityTag("a")))
  #expect(condition.matchesStrongly(EntityTag("b")))
  #expect(!condition.matchesStrongly(EntityTag("b", isWeak: true)))
  #expect(condition.matchesWeakly(EntityTag("a")))
  #expect(!condition.matchesWeakly(EntityTag("c")))
  #expect(EntityTagCondition.any.matchesStrongly(EntityTag("z")))
  #expect(!EntityTagCondition.any.matchesStrongly(nil))
  #expect(try request("GET", [:]).ifMatch() == nil)
}
