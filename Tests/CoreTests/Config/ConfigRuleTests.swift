import MagicalaneCore
import Testing

@Suite struct ConfigRuleTests {
  // MARK: Keys

  @Test func `an unknown key in an entry names the entry and the nearest key`() {
    let text = """
      frontends:
        - name: socks
          type: socks5
          listen: tcp://127.0.0.1:1080
          trasport: direct
      """
    #expect(
      messages(text) == ["m.yaml:5:5: unknown key 'trasport' in frontend 'socks'; did you mean 'transport'?"]
    )
  }

  @Test func `a key that is missing because it is misspelt is told as both`() {
    let text = """
      frontends:
        - name: socks
          type: socks5
          lisen: tcp://127.0.0.1:1080
      """
    #expect(
      messages(text) == [
        "m.yaml:2:5: missing key 'listen' in frontend 'socks': expected an address such as tcp://127.0.0.1:1080",
        "m.yaml:4:5: unknown key 'lisen' in frontend 'socks'; did you mean 'listen'?",
      ]
    )
  }

  @Test func `an unknown key that is near to none lists the known ones`() {
    #expect(
      messages("log: {colour: red}")
        == ["m.yaml:1:7: unknown key 'colour' in log; known keys: format, level"]
    )
    #expect(
      messages("limits: {zebra: 1}")
        == [
          "m.yaml:1:10: unknown key 'zebra' in limits; known keys: buffer, connect_timeout, drain_timeout, "
            + "handshake_timeout, idle_timeout, memory, sessions"
        ]
    )
  }

  @Test func `unknown keys are found at every level`() {
    let text = """
      frontend: []
      admin: {listn: "127.0.0.1:1", listen: "127.0.0.1:2"}
      frontends:
        - name: edge
          type: http
          listen: tls://127.0.0.1:1
          tls: {certificate: a, key: b, kye: c}
          users: [{name: a, password: b, pasword: c}]
      transports:
        - name: tokyo
          type: quic
          server: a:1
          tls: {serverName: a}
      """
    #expect(
      messages(text) == [
        "m.yaml:1:1: unknown key 'frontend'; did you mean 'frontends'?",
        "m.yaml:2:9: unknown key 'listn' in admin; did you mean 'listen'?",
        "m.yaml:7:35: unknown key 'kye' in 'tls' of frontend 'edge'; did you mean 'key'?",
        "m.yaml:8:36: unknown key 'pasword' in 'users[0]' of frontend 'edge'; did you mean 'password'?",
        "m.yaml:13:11: unknown key 'serverName' in 'tls' of transport 'tokyo'; did you mean 'server_name'?",
      ]
    )
  }

  @Test func `the keys of the listener belong to the frontend that listens on it, and to no other`() {
    let text = "frontends: [{name: f, type: socks5, listen: 'tcp://127.0.0.1:1', tls: {}}]"
    #expect(
      messages(text) == [
        "m.yaml:1:66: unknown key 'tls' in frontend 'f'; known keys: allow_local_targets, buffer, "
          + "handshake_timeout, idle_timeout, listen, name, open, transport, type, users"
      ]
    )
  }

  @Test func `missing keys say what was expected`() {
    #expect(
      messages("frontends:\n  - {}\ntransports:\n  - name: t\n    type: pipe\n    inner: {depth: 1}\n") == [
        "m.yaml:2:5: missing key 'listen' in frontends[0]: expected an address such as tcp://127.0.0.1:1080",
        "m.yaml:2:5: missing key 'name' in frontends[0]: expected a name of letters, digits, '_', '.' and '-'",
        "m.yaml:2:5: missing key 'type' in frontends[0]: expected text",
        "m.yaml:4:5: missing key 'path' in transport 't': expected text",
        "m.yaml:6:12: missing key 'label' in 'inner' of transport 't': expected text",
      ]
    )
  }

  @Test func `a missing mapping is one problem and no cascade`() {
    let text = "frontends: [{name: f, type: http, listen: 'tls://127.0.0.1:1', realm: 5}]"
    #expect(messages(text) == ["m.yaml:1:13: missing key 'tls' in frontend 'f'"])
  }

  // MARK: Types

  @Test(arguments: [
    (
      "mode: fats",
      "5:11: 'mode' in transport 't': expected one of fast, slow, found 'fats'; did you mean 'fast'?"
    ),
    ("mode: [fast]", "5:11: 'mode' in transport 't': expected one of fast, slow, found a list"),
    ("retries: many", "5:14: 'retries' in transport 't': expected an integer, found 'many'"),
    ("retries: \"3\"", "5:14: 'retries' in transport 't': expected an integer without quotes, found '3'"),
    ("retries: 3.5", "5:14: 'retries' in transport 't': expected an integer, found '3.5'"),
    (
      "retries: 9999999999999999999",
      "5:14: 'retries' in transport 't': expected an integer, found '9999999999999999999'"
    ),
    ("ratio: nan", "5:12: 'ratio' in transport 't': expected a number, found 'nan'"),
    ("keep_alive: yes", "5:17: 'keep_alive' in transport 't': expected true or false, found 'yes'"),
    (
      "keep_alive: 'true'",
      "5:17: 'keep_alive' in transport 't': expected true or false without quotes, found 'true'"
    ),
    (
      "every: 10",
      "5:12: 'every' in transport 't': expected a duration such as 500ms, 30s, 5m or 2h, found '10'"
    ),
    (
      "window: 4 MB/s",
      "5:13: 'window' in transport 't': expected a size such as 64KiB, 4MiB or a number of bytes, found '4 MB/s'"
    ),
    ("api_token: ''", "5:16: 'api_token' in transport 't': expected text that is not empty, found ''"),
    ("hops: a:1", "5:11: 'hops' in transport 't': expected a list, found 'a:1'"),
    (
      "hops: ['a:0']",
      "5:12: 'hops[0]' in transport 't': expected HOST:PORT with a port from 1 to 65535, found 'a:0'"
    ),
    (
      "hops: ['a:1', 'b:65536']",
      "5:19: 'hops[1]' in transport 't': expected HOST:PORT with a port from 1 to 65535, found 'b:65536'"
    ),
    ("labels: [a]", "5:13: 'labels' in transport 't': expected a mapping, found a list"),
    ("labels: {a: b}", "5:17: 'labels.a' in transport 't': expected an integer, found 'b'"),
    ("inner: 5", "5:12: 'inner' in transport 't': expected a mapping, found '5'"),
    (
      "inner: {depth: 256, label: a}",
      "5:20: 'inner.depth' in transport 't': expected an integer from 0 to 255, found '256'"
    ),
    ("inner: {depth: 1, label: {}}", "5:30: 'inner.label' in transport 't': expected text, found a mapping"),
    ("inner: {depth: 1, label: }", "5:30: 'inner.label' in transport 't': expected text, found nothing"),
    ("buffer: 7KiB", "5:13: 'buffer' in transport 't': expected a size from 8KiB to 1GiB, found '7KiB'"),
    ("buffer: 2GiB", "5:13: 'buffer' in transport 't': expected a size from 8KiB to 1GiB, found '2GiB'"),
    (
      "connect_timeout: 0s",
      "5:22: 'connect_timeout' in transport 't': expected a duration such as 500ms, 30s, 5m or 2h, above 0, found '0s'"
    ),
  ])
  func `a wrong value says what was expected and what was found`(keys: String, message: String) {
    #expect(pipeMessages(keys) == ["m.yaml:\(message)"])
  }

  @Test(arguments: [
    (
      "log: {level: inf}",
      "1:14: 'level' in log: expected one of critical, debug, error, info, notice, trace, warning, found 'inf'; did you mean 'info'?"
    ),
    ("log: {format: xml}", "1:15: 'format' in log: expected one of json, text, found 'xml'"),
    ("log: loud", "1:6: 'log': expected a mapping, found 'loud'"),
    ("limits: {sessions: 0}", "1:20: 'sessions' in limits: expected an integer from 1, found '0'"),
    (
      "limits: {idle_timeout: soon}",
      "1:24: 'idle_timeout' in limits: expected a duration such as 500ms, 30s, 5m or 2h, above 0, found 'soon'"
    ),
    ("limits: {memory: 15MiB}", "1:18: 'memory' in limits: expected a size from 16MiB, found '15MiB'"),
    ("limits: {buffer: 1}", "1:18: 'buffer' in limits: expected a size from 8KiB to 1GiB, found '1'"),
    ("frontends: {}", "1:12: 'frontends': expected a list, found a mapping"),
    ("transports: 5", "1:13: 'transports': expected a list, found '5'"),
    ("transports: [5]", "1:14: transports[0]: expected a mapping, found '5'"),
    ("[]", "1:1: the file: expected a mapping, found a list"),
    ("hello", "1:1: the file: expected a mapping, found 'hello'"),
  ])
  func `a section with a wrong value says so`(text: String, message: String) {
    #expect(messages(text) == ["m.yaml:\(message)"])
  }

  @Test func `all problems of a file come in one go, in the order of the file`() {
    let text = """
      log: {level: loud}
      frontends:
        - name: a b
          type: sock5
          listen: tpc://127.0.0.1:1080
          transport: tokio
          buffer: big
        - name: web
          type: http
          listen: tcp://127.0.0.1:99999
          transprot: tokyo
      transports:
        - name: tokyo
          type: quick
          user: alice
      """
    #expect(
      messages(text) == [
        "m.yaml:1:14: 'level' in log: expected one of critical, debug, error, info, notice, trace, warning, found 'loud'",
        "m.yaml:3:11: 'name' in frontend 'a b': expected a name of letters, digits, '_', '.' and '-', found 'a b'",
        "m.yaml:4:11: 'type' in frontend 'a b': expected one of http, socks5, found 'sock5'; did you mean 'socks5'?",
        "m.yaml:5:13: 'listen' in frontend 'a b': expected one of quic, tcp, tls, found 'tpc'; did you mean 'tcp'?",
        "m.yaml:6:16: 'transport' in frontend 'a b': no transport is named 'tokio'; did you mean 'tokyo'?",
        "m.yaml:7:13: 'buffer' in frontend 'a b': expected a size from 8KiB to 1GiB, found 'big'",
        "m.yaml:10:13: 'listen' in frontend 'web': expected tcp://HOST:PORT with a port from 0 to 65535, "
          + "found 'tcp://127.0.0.1:99999'",
        "m.yaml:11:5: unknown key 'transprot' in frontend 'web'; did you mean 'transport'?",
        "m.yaml:14:11: 'type' in transport 'tokyo': expected one of pipe, quic, tcp, tls, found 'quick'; did you mean 'quic'?",
        "m.yaml:15:11: 'user' in transport 'tokyo': it needs 'password' beside it",
      ]
    )
  }

  // MARK: Types with readers of their own

  @Test(arguments: [
    ("pair: {low: 2, high: 1}", ["5:20: 'pair.high' in transport 't': expected a value above 'low'"]),
    ("pair: {low: 2, high: x}", ["5:26: 'pair.high' in transport 't': expected an integer, found 'x'"]),
    ("pair: {low: 2}", ["5:11: missing key 'high' in 'pair' of transport 't': expected an integer"]),
    (
      "pair: {low: 2, high: 1, stop: 1}",
      [
        "5:20: 'pair.high' in transport 't': expected a value above 'low'",
        "5:29: unknown key 'stop' in 'pair' of transport 't'; did you mean 'step'?",
      ]
    ),
    (
      "color: blue",
      ["5:12: 'color' in transport 't': Cannot initialize Color from invalid String value blue"]
    ),
    ("pins: {a: b}", ["5:11: 'pins' in transport 't': expected a list, found a mapping"]),
    ("pins: [a, [b]]", ["5:15: 'pins[1]' in transport 't': expected text, found a list"]),
    ("place: [a]", ["5:12: 'place' in transport 't': expected text, found a list"]),
    (
      "place: {steet: a}",
      [
        "5:12: missing key 'street' in 'place' of transport 't': expected text",
        "5:13: unknown key 'steet' in 'place' of transport 't'; did you mean 'street'?",
      ]
    ),
    ("pins: ${NOPE}", ["5:11: 'pins' in transport 't': environment variable 'NOPE' is not set"]),
    ("color: ${X}", ["5:12: 'color' in transport 't': cannot read '${X}'"]),
  ])
  func `what a type finds wrong with itself is one problem, and none when its parts have one`(
    keys: String,
    found: [String]
  ) {
    #expect(pipeMessages(keys, ["X": "hunter2"]) == found.map { "m.yaml:\($0)" })
  }

  // MARK: Names

  @Test func `a name is taken once in its list`() {
    let text = """
      frontends:
        - {name: a, type: http, listen: "tcp://127.0.0.1:1"}
        - {name: a, type: http, listen: "tcp://127.0.0.1:2"}
      transports:
        - {name: a, type: tcp}
        - {name: b, type: tcp}
        - {name: b, type: tcp}
      """
    #expect(
      messages(text) == [
        "m.yaml:3:12: 'name' in frontend 'a': the name is taken: another entry at m.yaml:2:12 has it too",
        "m.yaml:7:12: 'name' in transport 'b': the name is taken: another entry at m.yaml:6:12 has it too",
      ]
    )
  }

  @Test(arguments: ["", "'a/b'", "a b", "ä", "'a\"b'", "\"a\\nb\""])
  func `a name is safe in labels and URLs`(name: String) {
    #expect(messages("transports: [{name: \(name), type: tcp}]").count == 1)
  }

  @Test func `a transport that is not there is named with those that are`() {
    let expected =
      "m.yaml:5:16: 'transport' in frontend 'f': no transport is named 'osaka'; there are: direct"
    #expect(frontendMessages("transport: osaka") == [expected])
  }

  @Test func `a type that is no plugin's says which are, and calls no key of the entry unknown`() {
    #expect(
      messages("transports: [{name: t, type: wormhole, exit: far}]") == [
        "m.yaml:1:30: 'type' in transport 't': expected one of pipe, quic, tcp, tls, found 'wormhole'"
      ]
    )
  }

  // MARK: Listen addresses

  @Test func `a transport that cannot listen is no scheme`() {
    #expect(
      messages("frontends: [{name: f, type: http, listen: 'pipe://x'}]") == [
        "m.yaml:1:43: 'listen' in frontend 'f': transport type 'pipe' can connect but not listen"
      ]
    )
  }

  @Test(arguments: ["127.0.0.1:1", "tcp://", "://127.0.0.1:1"])
  func `an address has a scheme and a location`(address: String) {
    #expect(
      messages("frontends: [{name: f, type: http, listen: '\(address)'}]") == [
        "m.yaml:1:43: 'listen' in frontend 'f': expected an address such as tcp://127.0.0.1:1080, found '\(address)'"
      ]
    )
  }

  @Test(arguments: [
    "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", ":80", "::1:80", "a_b c:80",
  ])
  func `a location is a host and a port`(location: String) {
    #expect(
      messages("frontends: [{name: f, type: http, listen: 'tcp://\(location)'}]") == [
        "m.yaml:1:43: 'listen' in frontend 'f': expected tcp://HOST:PORT with a port from 0 to 65535, "
          + "found 'tcp://\(location)'"
      ]
    )
  }

  @Test(arguments: [
    ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"), ("tcp://[::1]:80", "tcp://[0:0::1]:80"),
    ("tcp://localhost:80", "tcp://LOCALHOST:80"), ("tcp:///run/x", "tcp:///run/x"),
  ])
  func `an address is listened on once`(first: String, second: String) {
    let text = """
      frontends:
        - {name: a, type: http, listen: "\(first)"}
        - {name: b, type: http, listen: "\(second)"}
      """
    #expect(
      messages(text) == [
        "m.yaml:3:35: 'listen' in frontend 'b': the address is taken: frontend 'a' listens on it at m.yaml:2:35"
      ]
    )
  }

  @Test func `port 0 is a port of its own each time, and other ports and schemes are other addresses`() {
    let addresses = [
      "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.2:1",
    ]
    let entries = addresses.enumerated().map { "{name: f\($0), type: http, listen: '\($1)'}" }
    #expect(messages("frontends: [\(entries.joined(separator: ", "))]") == [])
  }

  // MARK: Who may come in

  @Test(arguments: [
    "0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[2001:db8::1]:1", "example.com:1", "[::ffff:0.0.0.0]:1",
  ])
  func `a frontend that other hosts can reach has users or says that it is open`(location: String) {
    func text(_ keys: String) -> String {
      "frontends: [{name: f, type: http, listen: 'tcp://\(location)'\(keys)}]"
    }
    let refused =
      "m.yaml:1:43: 'listen' in frontend 'f': other hosts can reach this address; "
      + "add 'users', or 'open: true' to let everyone in"
    #expect(messages(text("")) == [refused])
    #expect(messages(text(", open: false")) == [refused])
    #expect(messages(text(", open: true")) == [])
    #expect(messages(text(", users: [{name: a, password: b}]")) == [])
  }

  @Test(arguments: [
    "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1", "/run/x", "@x",
  ])
  func `a frontend for this host alone needs no users`(location: String) {
    #expect(messages("frontends: [{name: f, type: http, listen: 'tcp://\(location)'}]") == [])
  }

  @Test(arguments: [
    ("users: []", "5:12: 'users' in frontend 'f': expected a list of at least one user, found an empty list"),
    ("users:", "5:11: 'users' in frontend 'f': expected a list of at least one user, found nothing"),
    ("users: alice", "5:12: 'users' in frontend 'f': expected a list, found 'alice'"),
    ("users: {a: b}", "5:12: 'users' in frontend 'f': expected a list, found a mapping"),
    ("users: [alice]", "5:13: 'users[0]' in frontend 'f': expected a mapping, found 'alice'"),
    (
      "users: [{name: a}]",
      "5:13: missing key 'password' in 'users[0]' of frontend 'f': expected text that is not empty"
    ),
    (
      "users: [{name: a, password: ''}]",
      "5:33: 'users[0].password' in frontend 'f': expected text that is not empty, found ''"
    ),
    (
      "users: [{name: '', password: a}]",
      "5:20: 'users[0].name' in frontend 'f': expected a name without ':' and control characters, found ''"
    ),
    (
      "users: [{name: a, password: b}, {name: a, password: c}]",
      "5:44: 'users[1].name' in frontend 'f': the user is there already at m.yaml:5:20"
    ),
    (
      "users: [{name: a, password: b}]\nopen: true",
      "6:11: 'open' in frontend 'f': 'users' says who may come in and 'open' that everyone may; keep one"
    ),
  ])
  func `users are at least one, each once, each with a password`(keys: String, message: String) {
    #expect(frontendMessages(keys) == ["m.yaml:\(message)"])
  }

  @Test(arguments: [
    ("user: a", "5:11: 'user' in transport 't': it needs 'password' beside it"),
    ("password: a", "5:15: 'password' in transport 't': it needs 'user' beside it"),
    ("user: a\npassword:", "5:11: 'user' in transport 't': it needs 'password' beside it"),
  ])
  func `a user has a password, and a password a user`(keys: String, message: String) {
    #expect(pipeMessages(keys) == ["m.yaml:\(message)"])
  }

  @Test(arguments: ["0.0.0.0:9090", "[::]:9090", "example.com:9090"])
  func `an admin API that other hosts can reach has a token`(listen: String) {
    #expect(
      messages("admin: {listen: '\(listen)'}")
        == ["m.yaml:1:17: 'listen' in admin: other hosts can reach this address; add 'token'"]
    )
    #expect(messages("admin: {listen: '\(listen)', token: a}") == [])
  }

  @Test(arguments: ["127.0.0.1:9090", "[::1]:0", "localhost:1", "unix:/run/magicalane.sock"])
  func `an admin API for this host alone needs no token`(listen: String) {
    #expect(messages("admin: {listen: '\(listen)'}") == [])
  }

  @Test(arguments: ["9090", "127.0.0.1:65536", "unix:run", "unix:/", "http://127.0.0.1:1", ""])
  func `the admin API listens on a port or a path`(listen: String) {
    #expect(
      messages("admin: {listen: '\(listen)'}")
        == ["m.yaml:1:17: 'listen' in admin: expected HOST:PORT or unix:/PATH, found '\(listen)'"]
    )
  }
}
