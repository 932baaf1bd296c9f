import Testing

@testable import MagicalaneCore

@Suite struct ConfigSubstitutionTests {
  @Test func `a variable stands for its value anywhere in a text, numbers and booleans included`() throws {
    let config = try config(
      """
      limits: {sessions: "${N}"}
      frontends:
        - {name: "${A}-${B}", type: http, listen: "tcp://127.0.0.1:${PORT}"}
      log:
        level: ${LEVEL}
      """,
      ["N": "12", "A": "x", "B": "y", "PORT": "81", "LEVEL": "debug"]
    )
    #expect(config.limits.sessions == 12)
    #expect(config.frontends.map(\.name) == ["x-y"])
    #expect(config.frontends.map(\.listen.location) == ["127.0.0.1:81"])
    #expect(config.log.level == .debug)
  }

  @Test func `a reference that YAML takes apart is an error that says how to write it`() {
    #expect(
      messages("log: {level: ${LEVEL}}", ["LEVEL": "info"]) == [
        "m.yaml:1:15: not valid YAML: did not find expected ',' or '}' while parsing a flow mapping"
          + "; inside { } and [ ], \"${NAME}\" needs quotes"
      ]
    )
  }

  @Test(arguments: [
    ("$${A}", "${A}"), ("a$b", "a$b"), ("$$", "$$"), ("cash $${A} ${A}", "cash ${A} 1"), ("$", "$"),
    ("${A}${A}", "11"),
    ("$A", "$A"), ("${_x}", "2"),
  ])
  func `only a dollar with braces is replaced, and two dollars keep it from that`(
    written: String,
    text: String
  ) {
    let substitution = Substitution(written, environment: ["A": "1", "_x": "2"])
    #expect(substitution.text == text)
    #expect(substitution.faults == [])
  }

  @Test func `a value that looks like a reference is not replaced again`() {
    #expect(Substitution("${A}", environment: ["A": "${B}", "B": "x"]).text == "${B}")
  }

  @Test func `a missing variable is an error where it is named`() {
    let text = """
      transports:
        - name: t
          type: pipe
          path: a $${NOPE} ${NOPE} ${HERE} ${ALSO}
          api_token: "${NOPE}"
          inner:
            depth: 1
            label: |
              first
                second ${NOPE}
      """
    #expect(
      messages(text, ["HERE": "x"]) == [
        "m.yaml:4:22: 'path' in transport 't': environment variable 'NOPE' is not set",
        "m.yaml:4:38: 'path' in transport 't': environment variable 'ALSO' is not set",
        "m.yaml:5:17: 'api_token' in transport 't': environment variable 'NOPE' is not set",
        "m.yaml:10:18: 'inner.label' in transport 't': environment variable 'NOPE' is not set",
      ]
    )
  }

  @Test func `a missing variable causes no second problem`() {
    let text = """
      frontends:
        - {name: "${A}", type: "${B}", listen: "${C}", transport: "${D}", users: "${E}", open: "${F}"}
      transports:
        - {name: "${A}", type: tcp, user: "${G}", password: a, server: "${H}"}
      admin: {listen: "${I}"}
      limits: ${J}
      """
    #expect(messages(text).count == 11)
    #expect(messages(text).allSatisfy { $0.hasSuffix("is not set") })
  }

  @Test(arguments: ["${", "${A", "${}", "${a b}", "${1}", "${A-x}"])
  func `a reference without a name and an end is an error`(path: String) {
    #expect(
      messages("transports: [{name: t, type: pipe, path: 'x\(path)'}]", ["A": "1"]) == [
        "m.yaml:1:44: 'path' in transport 't': expected a name and '}' after '${'; write $${ for a literal ${"
      ]
    )
  }

  @Test func `no message shows a value from the environment`() {
    let text = """
      frontends:
        - {name: "${X}", type: "${X}", listen: "${X}", transport: "${X}", open: "${X}", buffer: "${X}"}
        - {name: g, type: http, listen: "${Y}", users: "${X}"}
      transports:
        - {name: t, type: pipe, path: p, mode: "${X}", retries: "${X}", hops: ["${X}"], inner: "${X}", ratio: "${X}"}
      admin: {listen: "${X}", token: ["${X}"]}
      log: {level: "${X}"}
      """
    let found = messages(text, ["X": "hunter two", "Y": "hunter://two"])
    #expect(found.count == 16)
    #expect(!found.contains { $0.contains("hunter") })
    #expect(
      found.contains(
        "m.yaml:7:14: 'level' in log: expected one of critical, debug, error, info, notice, trace, warning, found '${X}'"
      )
    )
  }

  @Test func `printing a secret shows none of it`() {
    #expect("\(Secret("hush"))" == "***")
  }
}

@Suite struct ConfigSyntaxTests {
  @Test(arguments: [
    ("a: [1, 2", "2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence"),
    (
      "log:\n\tlevel: info",
      "2:1: not valid YAML: found character that cannot start any token while scanning for the next token"
    ),
    (
      "log: {level: info}\n  x: 1",
      "2:3: not valid YAML: did not find expected key while parsing a block mapping"
    ),
    ("log: *nope", "1:6: not valid YAML: found undefined alias"),
    (
      "log: {}\n---\nlog: {}",
      "2:1: not valid YAML: expected a single document in the stream but found another document"
    ),
    ("log: \"\u{1}\"", "1:7: not valid YAML: control characters are not allowed"),
    (
      "log: \"\\ud800\"",
      "1:9: not valid YAML: found invalid Unicode character escape code while parsing a quoted scalar"
    ),
  ])
  func `text that is no YAML is an error where it stops to be`(text: String, message: String) {
    #expect(messages(text) == ["m.yaml:\(message)"])
  }

  @Test func `a key that is given twice is an error at the second, and hides no other`() {
    let text = """
      log: {level: info, "level": debug}
      limits:
        sessions: 1
        buffer: 1
        sessions: 2
      log: {}
      """
    #expect(
      messages(text) == [
        "m.yaml:1:20: 'level' in log: the key is given twice, first at m.yaml:1:7",
        "m.yaml:4:11: 'buffer' in limits: expected a size from 8KiB to 1GiB, found '1'",
        "m.yaml:5:3: 'sessions' in limits: the key is given twice, first at m.yaml:3:3",
        "m.yaml:6:1: 'log': the key is given twice, first at m.yaml:1:1",
      ]
    )
  }

  @Test func `keys are words, and merge keys merge mappings`() {
    #expect(messages("? [a]\n: b\n") == ["m.yaml:1:3: a key must be a single word"])
    #expect(messages("log: {<<: 5}") == ["m.yaml:1:11: '<<': expected a mapping to merge, found '5'"])
  }

  @Test func `a file that is nested too deeply is an error`() {
    let levels = 200
    let text = "log: " + String(repeating: "[", count: levels) + String(repeating: "]", count: levels)
    #expect(messages(text) == ["m.yaml:1:70: the file holds more than 64 levels"])
    #expect(messages("log: " + String(repeating: "[", count: 500_000)).count == 1)
  }

  @Test func `aliases that multiply are an error`() {
    var text = "a0: &a0 [x, x]\n"
    for level in 1...40 {
      text += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1), *a\(level - 1)]\n"
    }
    #expect(messages(text).count == 1)
    #expect(
      messages(text).first?.hasSuffix("the file holds more than 100000 values, aliases followed") == true
    )
  }

  @Test func `a file full of problems is read to its end`() {
    let many = 2_000
    let unknown = (0..<many).map { "key\($0): 1\n" }.joined()
    #expect(messages(unknown).count == many)
    let missing = "[" + Array(repeating: "\"${NOPE}\"", count: many).joined(separator: ", ") + "]"
    #expect(messages("log: {level: \(missing)}").count == many + 1)
    let wrong = "[" + Array(repeating: "5", count: many).joined(separator: ", ") + "]"
    #expect(messages("frontends: \(wrong)").count == many)
  }

  @Test func `long and unprintable values are shown short and on one line`() {
    let text = "log: {level: \"a\\nb\\u001b\(String(repeating: "x", count: 100))\"}"
    let shown = "a\\nb\\u{1B}" + String(repeating: "x", count: 56)
    #expect(
      messages(text) == [
        "m.yaml:1:14: 'level' in log: expected one of critical, debug, error, info, notice, trace, warning, "
          + "found '\(shown)…'"
      ]
    )
  }

  @Test func `columns count characters, not bytes`() {
    #expect(
      messages("log: {\"ä€😀\": 1}") == ["m.yaml:1:7: unknown key 'ä€😀' in log; known keys: format, level"]
    )
    #expect(
      messages("log: {level: info, format: \"ä\", x: 1}").map { String($0.prefix(12)) } == [
        "m.yaml:1:28:", "m.yaml:1:33:",
      ]
    )
  }

  @Test(
    "keys that aliases can blow up are refused where there are aliases, before anybody hashes them",
    arguments: [
      "a: &a [x, x]\nb: {? [*a, *a] : 1}", "a: &a [x]\n? *a\n: 1", "a: &a [x]\n*a : 1",
      "a: &a [x]\nb: {*a : 1}", "a: &a [x]\nb: {[*a]: 1}", "a: &a {x: 1}\nb: {{y: *a}: 1}",
    ]
  )
  func aliasedKeys(text: String) {
    #expect(AliasedKeys.find(in: text) != nil)
  }

  @Test(
    "aliases as values are taken, and so is whatever looks like such a key in a file without aliases",
    arguments: [
      "a: &a {x: 1}\nb: *a\nserver: \"${HOST}:443\"",
      "a: &a [1]\nb: [*a, *a]\nlisten: tcp://[::1]:80\nadmin: {listen: \"[::1]:80\"}",
      "? a\n: 1", "password: what ? is * this & that",
    ]
  )
  func harmlessKeys(text: String) {
    #expect(AliasedKeys.find(in: text) == nil)
  }
}
