import Testing

@testable import MagicalaneCore

@Suite struct BasicCredentialsTests {
  @Test func `what is written is read again`() throws {
    for (user, password) in [
      ("alice", "s:ecret"), ("", ""), ("jörg", "пароль:"), ("a", String(repeating: "x", count: 300)),
    ] {
      let credentials = Credentials(user: user, password: password)
      #expect(Credentials(basicAuthorization: credentials.basicAuthorization) == credentials)
    }
  }

  @Test(arguments: [
    "", "Basic", "Basic ", "Basic YQ==", "Basic a:b", "Digest YTpi", "Basic YTpi YTpi", "Basic //86",
  ])
  func `anything else is no credentials`(value: String) {
    #expect(Credentials(basicAuthorization: value) == nil)
  }
}
