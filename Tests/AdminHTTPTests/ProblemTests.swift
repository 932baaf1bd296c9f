import Testing

@testable import MagicalaneAdminHTTP

@Test func `a problem shows type, title, status and what is given of the rest`() {
  let problem = Problem(404, detail: "no session 7", instance: "/v1/sessions/7")
  #expect(
    String(decoding: problem.json, as: UTF8.self)
      == #"{"detail":"no session 7","instance":"/v1/sessions/7","status":404,"title":"Not Found","type":"about:blank"}"#
  )
}

@Test func `a problem points at each fault`() {
  let fault = Problem.Fault(
    detail: "no such file",
    pointer: JSONPointer(["frontends", "0", "tls", "certificate"]),
    extra: ["step": "validate"]
  )
  let problem = Problem(422, type: "/problems/config", title: "Invalid config", errors: [fault])
  let text =
    ##"{"errors":[{"detail":"no such file","pointer":"#/frontends/0/tls/certificate","##
    + ##""step":"validate"}],"status":422,"title":"Invalid config","type":"/problems/config"}"##
  #expect(String(decoding: problem.json, as: UTF8.self) == text)
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
