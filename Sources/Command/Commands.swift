import ArgumentParser
import Foundation
import MagicalaneCore
import MagicalaneTransports
import NIOCore
import NIOPosix

struct ConfigOption: ParsableArguments {
  @Option(
    name: [.customShort("c"), .customLong("config")],
    help: ArgumentHelp("The config file; without it the usual places are searched.", valueName: "file")
  )
  var file: String?

  /// The file that was asked for, else the first of the usual places that exists.
  var source: ConfigSource {
    let environment = ProcessInfo.processInfo.environment
    return ConfigSource(
      .location(.find(requested: file, environment: environment)),
      registry: Magicalane.registry,
      environment: environment
    )
  }
}

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run what the config says until SIGTERM or SIGINT.",
    discussion: """
      Without -c the first of these is used: ./magicalane.yaml, $XDG_CONFIG_HOME/magicalane/config.yaml, \
      /etc/magicalane/config.yaml; else SOCKS5 on 127.0.0.1:1080 and HTTP on 127.0.0.1:8080, both direct.

      SIGTERM and SIGINT let running sessions end (limits: drain_timeout); a second one exits at once. \
      SIGHUP reads the config again.
      """
  )

  @OptionGroup var config: ConfigOption

  @Option(help: ArgumentHelp("Threads that move bytes; by default one for each core.", valueName: "count"))
  var eventLoops: Int?

  func validate() throws {
    if let eventLoops, !(1...1024).contains(eventLoops) {
      throw ValidationError("--event-loops must be from 1 to 1024")
    }
  }

  func run() async throws {
    // Holds where it is said before the first use of the loops.
    if let eventLoops { NIOSingletons.groupLoopCountSuggestion = eventLoops }
    try await Service(source: config.source).run()
  }
}

struct CheckCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a config and the files it names; start nothing."
  )

  @OptionGroup var config: ConfigOption

  func run() async throws {
    let source = config.source
    let configuration = try Failure.usage { try source.load() }
    let runtime = Runtime(
      loops: .singletonMultiThreadedEventLoopGroup,
      logger: LogOutput(configuration.log).makeLogger()
    )
    do throws(RuntimeErrors) {
      try await runtime.check(configuration)
    } catch {
      throw Failure.usage("\(error)")
    }
    print("\(source.name): ok")
  }
}

struct CertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cert",
    abstract: "Make a self-signed certificate for a server."
  )

  @Option(help: ArgumentHelp("A name or address that clients use; repeat it for more.", valueName: "name"))
  var host: [String]

  @Option(help: ArgumentHelp("Where cert.pem and key.pem are written.", valueName: "dir"))
  var out: String

  @Flag(help: "Replace files that are there.")
  var force = false

  func validate() throws {
    if host.isEmpty { throw ValidationError("--host is missing: the name or address that clients use") }
    for host in host where Host(host) == nil {
      throw ValidationError("--host '\(host)' is neither a host name nor an address")
    }
  }

  func run() throws {
    let certificate: SelfSignedCertificate
    let files: (certificate: String, key: String)
    do {
      certificate = try SelfSignedCertificate.make(hosts: host)
      files = try certificate.write(to: out, overwrite: force)
    } catch {
      throw Failure.running("\(error)")
    }
    print(
      """
      \(files.certificate)
      \(files.key)
      In the client's config: tls: {pin_sha256: "\(certificate.pinSHA256)"}
      """
    )
  }
}

struct VersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

  func run() {
    print("magicalane \(Magicalane.version)")
  }
}

extension Magicalane {
  /// This release, as in CHANGELOG.md.
  public static let version = "0.1.0"
}
