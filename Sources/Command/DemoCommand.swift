import ArgumentParser
import Foundation
import MagicalaneCore
import MagicalaneTransports

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Run both ends in this process: SOCKS5 and HTTP proxies through a QUIC tunnel on loopback."
  )

  func run() async throws {
    let signals = await Service.trapSignals()
    let files = try DemoFiles()
    defer { files.remove() }

    let server = try await Service(source: files.serverConfig).start()
    guard let tunnel = await server.live.runtime.listening.first?.address else {
      throw Failure.running("the tunnel's server did not start")
    }

    let service = Service(source: files.clientConfig(tunnel: tunnel))
    let client = try await service.start()
    // Not `print`: into a pipe that shows nothing before the process ends.
    FileHandle.standardOutput.write(Data((Self.whatToTry + "\n").utf8))
    await service.serve(client, alongside: [server], until: signals)
  }

  static let whatToTry = """

    Both ends of a QUIC tunnel run in this process. Try, in another terminal:

      curl -x socks5h://127.0.0.1:1080 https://example.com/
      curl -x http://127.0.0.1:8080 -p http://example.com/
      curl -x http://127.0.0.1:8080 https://example.com/
      magicalane status
      magicalane sessions --watch
      curl http://127.0.0.1:9090/v1/config

    Ctrl-C ends it.
    """
}

/// The demo's certificate and password, made for this run and gone with it.
private struct DemoFiles {
  let directory: URL
  let certificate: SelfSignedCertificate
  let password = String(UInt64.random(in: .min ... .max), radix: 36)

  init() throws {
    directory = FileManager.default.temporaryDirectory.appending(path: "magicalane-demo-\(UUID().uuidString)")
    do {
      certificate = try SelfSignedCertificate.make(hosts: ["127.0.0.1", "localhost"])
      _ = try certificate.write(to: directory.path)
    } catch {
      throw Failure.running("\(error)")
    }
  }

  func remove() {
    try? FileManager.default.removeItem(at: directory)
  }

  var serverConfig: ConfigSource {
    let text = """
      frontends:
        - name: tunnel
          type: http
          listen: quic://127.0.0.1:0
          tls: {certificate: cert.pem, key: key.pem}
          users: [{name: demo, password: "\(password)"}]
      """
    return source(text, name: "server.yaml")
  }

  func clientConfig(tunnel: ListenAddress) -> ConfigSource {
    let text = """
      admin: {listen: "127.0.0.1:9090"}
      frontends:
        - {name: socks, type: socks5, listen: "tcp://127.0.0.1:1080", transport: tunnel}
        - {name: web, type: http, listen: "tcp://127.0.0.1:8080", transport: tunnel}
      transports:
        - name: tunnel
          type: quic
          server: "\(tunnel.location)"
          user: demo
          password: "\(password)"
          tls: {pin_sha256: "\(certificate.pinSHA256)"}
      """
    return source(text, name: "client.yaml")
  }

  private func source(_ text: String, name: String) -> ConfigSource {
    ConfigSource(
      .text(text, name: name, directory: directory.path),
      registry: Magicalane.registry,
      environment: [:]
    )
  }
}
