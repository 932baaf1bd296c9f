import Foundation
import Testing

@testable import MagicalaneAdminHTTP

private func json(_ problem: Problem) throws -> NSDictionary? {
  try JSONSerialization.jsonObject(with: Data(problem.json)) as? NSDictionary
}

@Test func `a problem shows type, title, status and what is given of the rest`() throws {
  let problem = Problem(404, detail: "no session 7", instance: "/v1/sessions/7")
  #expect(
    try json(problem) == [
      "detail": "no session 7", "instance": "/v1/sessions/7", "status": 404, "title": "Not Found",
      "type": "urn:magicalane:problem:not-found",
    ]
  )
}

@Test func `a problem points at each fault, in the body where it lies there, and in the whole config`() throws
{
  let inside = Problem.Fault(
    detail: "no such file",
    pointer: JSONPointer(["tls", "certificate"]),
    configPointer: JSONPointer(["frontends", "0", "tls", "certificate"]),
    line: 2,
    column: 7
  )
  let outside = Problem.Fault(detail: "taken", configPointer: JSONPointer(["frontends", "1"]))
  let problem = Problem(422, kind: "invalid-config", title: "Invalid config", errors: [inside, outside])
  #expect(
    try json(problem)?["errors"] as? NSArray == [
      [
        "detail": "no such file", "pointer": "#/tls/certificate",
        "config_pointer": "#/frontends/0/tls/certificate", "line": 2, "column": 7,
      ],
      ["detail": "taken", "config_pointer": "#/frontends/1"],
    ]
  )
}

@Test func `a problem becomes a response with its media type and header fields`() {
  let response = AdminResponse(Problem(405, headers: ["Allow": "GET, HEAD"]))
  #expect(response.status == 405)
  #expect(response.headers["content-type"] == "application/problem+json")
  #expect(response.headers["allow"] == "GET, HEAD")
}

@Test(arguments: [
  ([], "", "#"),
  (["a/b", "m~n", ""], "/a~1b/m~0n/", "#/a~1b/m~0n/"),
  (["~1"], "/~01", "#/~01"),
  (["ä b", "%"], "/ä b/%", "#/%C3%A4%20b/%25"),
])
func `a JSON pointer escapes tilde and slash, and as a fragment what URIs do not allow`(
  path: [String],
  text: String,
  fragment: String
) {
  #expect(JSONPointer(path).text == text)
  #expect(JSONPointer(path).uriFragment == fragment)
}
