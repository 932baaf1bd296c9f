import Testing

@testable import MagicalaneCore

@Suite struct ProxyStatusTests {
  @Test func `what is written is read again`() {
    let statuses = [
      ProxyStatus(proxy: "p"), ProxyStatus(proxy: "p", error: "dns_error"),
      ProxyStatus(proxy: "p", error: "e", cause: "c", details: "a \"quoted\" \\ text, with; = all"),
    ]
    for status in statuses { #expect(ProxyStatus.parse(["\(status)"]) == [status]) }
    #expect(ProxyStatus.parse(statuses.map(\.description)) == statuses)
  }

  @Test func `details are cut and hold no byte that a string may not`() {
    let status = ProxyStatus(proxy: "p", details: "\r\né" + String(repeating: "x", count: 1000))
    #expect(status.description == "p; details=\"???" + String(repeating: "x", count: 253) + "\"")
  }

  @Test func `parameters of other proxies are passed over`() {
    let line = "\"a proxy\";received-status=502;next-hop=h.example;x=?1;y=:YQ==:;flag;  error=dns_error , q"
    #expect(
      ProxyStatus.parse([line]) == [
        ProxyStatus(proxy: "a proxy", error: "dns_error"), ProxyStatus(proxy: "q"),
      ]
    )
  }

  @Test(arguments: [
    "p; error=", "p; =x", "p,", ", p", "p q", "\"p", "p; details=\"a\\b\"", "p; details=\"é\"", "p; E=x", ";",
  ])
  func `a field that breaks the syntax says nothing`(line: String) {
    #expect(ProxyStatus.parse([line]).isEmpty)
  }
}
