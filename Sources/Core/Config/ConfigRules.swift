/// The rules that tie values of a file together; each reports to `findings`.
///
/// They look at what is written, so that they hold for entries whose other keys are wrong.
struct ConfigRules {
  private let findings: ConfigFindings
  private let frontends: [ConfigValue]
  private let transports: [ConfigValue]

  init(_ findings: ConfigFindings) {
    self.findings = findings
    frontends = findings.root["frontends"]?.items ?? []
    transports = findings.root["transports"]?.items ?? []
  }

  func check() {
    checkNames(frontends, in: ["frontends"])
    checkNames(transports, in: ["transports"])
    for (index, frontend) in frontends.enumerated() {
      let path = ["frontends", "\(index)"]
      checkReference(frontend, path)
      checkLocation(frontend, path)
      checkUsers(frontend, path)
      checkReach(frontend, path)
    }
    checkListenAddresses()
    for (index, transport) in transports.enumerated() {
      checkCredentials(transport, ["transports", "\(index)"])
    }
    checkAdmin()
  }

  // MARK: Names

  /// No two entries of a list have one name.
  private func checkNames(_ entries: [ConfigValue], in path: [String]) {
    var first: [String: SourcePosition] = [:]
    for (index, entry) in entries.enumerated() {
      guard let name = entry["name"], let text = name.scalar?.text else { continue }
      if let earlier = first[text] {
        findings.report(
          value: path + ["\(index)", "name"],
          "the name is taken: another entry\(findings.at(earlier)) has it too"
        )
      } else {
        first[text] = name.position
      }
    }
  }

  /// `transport:` names a transport that is there.
  private func checkReference(_ frontend: ConfigValue, _ path: [String]) {
    let names = transports.map { $0["name"]?.scalar?.text }
    guard let transport = frontend["transport"]?.scalar, transport.text != "direct",
      !names.contains(transport.text), !names.contains(nil)
    else { return }
    let known = (names.compactMap(\.self) + ["direct"]).sorted()
    let near = transport.written.nearest(among: known)
    findings.report(
      value: path + ["transport"],
      "no transport is named \(transport.written.quotedForMessage)"
        + (near.map { "; did you mean '\($0)'?" } ?? "; there are: \(known.joined(separator: ", "))")
    )
  }

  // MARK: Listen addresses

  /// A location is `HOST:PORT`, or a path that is the transport's own business.
  private func checkLocation(_ frontend: ConfigValue, _ path: [String]) {
    guard let value = frontend["listen"], let address = listenAddress(frontend), !address.isPath,
      address.hostAndPort == nil
    else { return }
    findings.report(
      value: path + ["listen"],
      "expected \(address.scheme)://HOST:PORT with a port from 0 to 65535, found \(value.found)"
    )
  }

  /// No two frontends listen on one address.
  private func checkListenAddresses() {
    var first: [String: Int] = [:]
    for (index, frontend) in frontends.enumerated() {
      guard let address = listenAddress(frontend), address.hostAndPort?.port != 0 else { continue }
      let key =
        address.hostAndPort.map { "\(address.scheme)://\($0.host.description.lowercased()) \($0.port)" }
        ?? address.description
      if let earlier = first[key], let position = frontends[earlier]["listen"]?.position {
        let other = findings.name(of: ["frontends", "\(earlier)"])
        findings.report(
          value: ["frontends", "\(index)", "listen"],
          "the address is taken: \(other) listens on it\(findings.at(position))"
        )
      } else {
        first[key] = index
      }
    }
  }

  // MARK: Who may come in

  /// A list of users has one at least, and each but once.
  private func checkUsers(_ frontend: ConfigValue, _ path: [String]) {
    guard let users = frontend["users"], !users.isBroken else { return }
    let path = path + ["users"]
    if users.isNull || users.items.isEmpty {
      let found =
        users.isNull ? "nothing" : users.items.isEmpty && users.scalar == nil ? "an empty list" : users.found
      findings.report(value: path, "expected a list of at least one user, found \(found)")
    }
    var first: [String: SourcePosition] = [:]
    for (index, user) in users.items.enumerated() {
      guard let name = user["name"], let text = name.scalar?.text else { continue }
      if let earlier = first[text] {
        findings.report(
          value: path + ["\(index)", "name"],
          "the user is there already\(findings.at(earlier))"
        )
      } else {
        first[text] = name.position
      }
    }
  }

  /// A frontend that other hosts can reach asks for a password, or says that it is open.
  private func checkReach(_ frontend: ConfigValue, _ path: [String]) {
    let hasUsers = frontend["users"].map { !$0.isNull } ?? false
    let isOpen = frontend["open"]?.scalar?.text == "true"
    if hasUsers, isOpen {
      findings.report(
        value: path + ["open"],
        "'users' says who may come in and 'open' that everyone may; keep one"
      )
    }
    guard !hasUsers, !isOpen, frontend["open"]?.isBroken != true, let address = listenAddress(frontend),
      let host = address.hostAndPort?.host, host.isReachableFromElsewhere
    else { return }
    findings.report(
      value: path + ["listen"],
      "other hosts can reach this address; add 'users', or 'open: true' to let everyone in"
    )
  }

  /// `user` and `password` come together.
  private func checkCredentials(_ transport: ConfigValue, _ path: [String]) {
    for (key, other) in [("user", "password"), ("password", "user")] {
      guard let value = transport[key], !value.isNull, transport[other].map(\.isNull) ?? true else {
        continue
      }
      findings.report(value: path + [key], "it needs '\(other)' beside it")
    }
  }

  /// The admin API is for this host, or for who has the token.
  private func checkAdmin() {
    guard let admin = findings.root["admin"], let listen = admin["listen"], let text = listen.scalar?.text
    else {
      return
    }
    let path = ["admin", "listen"]
    if text.hasPrefix("unix:") {
      guard !text.hasPrefix("unix:/") || text == "unix:/" else { return }
      findings.report(value: path, "expected HOST:PORT or unix:/PATH, found \(listen.found)")
    } else if let (host, _) = Target.split(text) {
      guard host.isReachableFromElsewhere, admin["token"].map(\.isNull) ?? true else { return }
      findings.report(value: path, "other hosts can reach this address; add 'token'")
    } else {
      findings.report(value: path, "expected HOST:PORT or unix:/PATH, found \(listen.found)")
    }
  }

  // MARK: Parts

  private func listenAddress(_ frontend: ConfigValue) -> ListenAddress? {
    frontend["listen"]?.scalar.flatMap { ListenAddress($0.text) }
  }
}

extension ListenAddress {
  /// Whether the location is a path, absolute, relative or in Linux' abstract namespace: within this host.
  fileprivate var isPath: Bool {
    ["/", "./", "../", "@"].contains { location.hasPrefix($0) }
  }
}

extension Host {
  /// False for loopback addresses and `localhost` alone; any other name may stand for any address.
  fileprivate var isReachableFromElsewhere: Bool {
    switch self {
    case .address(let ip): !ip.isLoopback || ip.unmapped.isUnspecified
    case .name(let name): !["localhost", "localhost."].contains(name.lowercased())
    }
  }
}
