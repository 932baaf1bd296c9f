import Testing

@testable import MagicalaneAdminHTTP

private func status(
  _ rules: AccessRules,
  at target: String = "/v1/status",
  unix: Bool = false,
  _ headers: HTTPFields
) throws -> Int? {
  let target = try #require(RequestTarget(target))
  return rules.refusal(
    of: AdminRequest(method: "GET", target: target, headers: headers, isLocalSocket: unix)
  )?.status
}

private let open = AccessRules(token: nil, listen: "127.0.0.1:9090")
private let guarded = AccessRules(token: "s3cret", listen: "0.0.0.0:9090")

@Test(arguments: [
  "localhost", "LocalHost:9090", "localhost.:1", "127.0.0.1:9090", "192.0.2.1", "[::1]:9090", "[::1]",
])
func `without a token, addresses and localhost are names of this API`(host: String) throws {
  #expect(try status(open, ["Host": host]) == nil)
}

@Test(arguments: [
  "evil.example", "evil.example:9090", "localhost.evil.example", "", "localhost:x", "a b", "@",
])
func `without a token, any other name is a page that rebound it`(host: String) throws {
  #expect(try status(open, ["Host": host]) == 403)
}

@Test func `the host of an absolute target counts, whatever Host says`() throws {
  #expect(try status(open, at: "http://evil.example/v1/status", ["Host": "localhost"]) == 403)
  #expect(try status(open, at: "http://localhost/v1/status", ["Host": "evil.example"]) == nil)
}

@Test func `the name that the config listens on is one of this API`() throws {
  let rules = AccessRules(token: nil, listen: "Box.example:9090")
  #expect(try status(rules, ["Host": "box.EXAMPLE"]) == nil)
  #expect(try status(rules, ["Host": "other.example"]) == 403)
}

@Test func `a Unix socket has no name to rebind, but pages are refused there too`() throws {
  let rules = AccessRules(token: nil, listen: "unix:/run/m.sock")
  #expect(try status(rules, unix: true, ["Host": "anything"]) == nil)
  #expect(try status(rules, unix: true, ["Host": "a", "Origin": "http://b"]) == 403)
}

@Test(
  arguments: [
    ("http://localhost:9090", "localhost:9090", nil), ("http://LOCALHOST", "localhost:80", nil),
    ("https://[::1]", "[::1]:443", nil), ("http://localhost:9091", "localhost:9090", 403),
    ("http://evil.example", "localhost", 403), ("null", "localhost", 403), ("", "localhost", 403),
    ("file://localhost", "localhost", 403),
  ] as [(String, String, Int?)]
)
func `an Origin must be the Host`(origin: String, host: String, expected: Int?) throws {
  #expect(try status(open, ["Host": host, "Origin": origin]) == expected)
  #expect(
    try status(guarded, ["Host": host, "Origin": origin, "Authorization": "Bearer s3cret"]) == expected
  )
}

@Test(arguments: [("same-origin", nil), ("none", nil), ("cross-site", 403), ("same-site", 403), ("x", 403)])
func `a page of another site is told by Sec-Fetch-Site`(site: String, expected: Int?) throws {
  #expect(try status(open, ["Host": "localhost", "Sec-Fetch-Site": site]) == expected)
}

@Test(
  arguments: [
    ("Bearer s3cret", nil), ("bearer  s3cret ", nil), ("Bearer S3cret", 401), ("Bearer s3cre", 401),
    ("Bearer s3crets", 401), ("Bearer", 401), ("Basic s3cret", 401), ("s3cret", 401), ("", 401),
  ] as [(String, Int?)]
)
func `a token must be the token`(field: String, expected: Int?) throws {
  #expect(try status(guarded, ["Host": "any.example", "Authorization": field]) == expected)
}

@Test func `a refusal says which scheme to use, and whether a token was wrong`() throws {
  let target = try #require(RequestTarget("/"))
  let none = guarded.refusal(of: AdminRequest(method: "GET", target: target))
  #expect(none?.headers["www-authenticate"] == "Bearer realm=\"magicalane\"")
  let wrong = guarded.refusal(
    of: AdminRequest(method: "GET", target: target, headers: ["Authorization": "Bearer x"])
  )
  #expect(wrong?.headers["www-authenticate"]?.contains("invalid_token") == true)
}

@Test func `probes need no token`() throws {
  #expect(try status(guarded, at: "/healthz", ["Host": "x"]) == nil)
  #expect(try status(guarded, at: "/readyz?verbose", ["Host": "x"]) == nil)
  #expect(try status(guarded, at: "/healthz/", ["Host": "x"]) == 401)
  #expect(try status(guarded, at: "/metrics", ["Host": "x"]) == 401)
}
