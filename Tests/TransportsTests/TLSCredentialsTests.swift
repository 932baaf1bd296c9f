import Logging
import MagicalaneCore
import Testing

@testable import MagicalaneTransports

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A directory that is removed with everything in it when the test ends.
final class TemporaryDirectory {
  let path: String

  init() throws {
    var template = Array("/tmp/magicalane-test-XXXXXX".utf8CString)
    path = try #require(mkdtemp(&template).map { String(cString: $0) })
  }

  deinit {
    if let list = opendir(path) {
      while let entry = readdir(list) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        unlink("\(path)/\(name)")
      }
      closedir(list)
    }
    rmdir(path)
  }

  @discardableResult
  func write(_ text: String, to name: String) throws -> String {
    let file = try #require(fopen("\(path)/\(name)", "w"))
    fputs(text, file)
    fclose(file)
    return name
  }
}

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
private let host = Host.name("proxy.example")

@Suite("TLS credentials")
struct TLSCredentialsTests {
  private func message(_ body: () throws -> Void) -> PluginError? {
    do {
      try body()
      return nil
    } catch {
      return error as? PluginError
    }
  }

  private func serverError(_ options: TLSServerOptions, _ directory: TemporaryDirectory) -> PluginError? {
    message { _ = try TLSServerCredentials(options: options, directory: directory.path) }
  }

  private func clientError(_ options: TLSClientOptions) -> PluginError? {
    message { _ = try TLSClientCredentials(options: options, host: host, directory: "/tmp", logger: quiet) }
  }

  @Test("a certificate that was written can be loaded, and its key is its owner's alone")
  func roundTrip() throws {
    let directory = try TemporaryDirectory()
    let made = try SelfSignedCertificate.make(hosts: ["proxy.example", "127.0.0.1", "::1"])
    let files = try made.write(to: directory.path)
    #expect(serverError(TLSServerOptions(certificate: files.certificate, key: "key.pem"), directory) == nil)
    var status = stat()
    #expect(stat(files.key, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
  }

  @Test("files that exist are replaced only when that is asked for, and a replaced key is still private")
  func overwriting() throws {
    let directory = try TemporaryDirectory()
    try directory.write("old", to: "key.pem")
    chmod("\(directory.path)/key.pem", 0o666)
    let made = try SelfSignedCertificate.make(hosts: ["proxy.example"])
    let refused = message { _ = try made.write(to: directory.path) }
    #expect(refused?.description.contains("key.pem exists already") == true)
    let files = try made.write(to: directory.path, overwrite: true)
    var status = stat()
    #expect(stat(files.key, &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
  }

  @Test("two certificates have different keys")
  func freshKeys() throws {
    let pins = try (0..<2).map { _ in try SelfSignedCertificate.make(hosts: ["proxy.example"]).pinSHA256 }
    #expect(pins[0] != pins[1])
  }

  @Test("a certificate needs hosts, and they must be hosts")
  func badHosts() {
    #expect(throws: PluginError.self) { try SelfSignedCertificate.make(hosts: []) }
    #expect(throws: PluginError.self) { try SelfSignedCertificate.make(hosts: ["two words"]) }
  }

  @Test("an error names the file, the reason and the key at fault")
  func serverErrors() throws {
    let directory = try TemporaryDirectory()
    let first = try SelfSignedCertificate.make(hosts: ["proxy.example"])
    let second = try SelfSignedCertificate.make(hosts: ["proxy.example"])
    try directory.write(first.certificatePEM, to: "cert.crt")
    try directory.write(first.keyPEM, to: "first.key")
    try directory.write(second.keyPEM, to: "second.key")
    try directory.write("hello", to: "text")
    try directory.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", to: "broken.crt")
    try directory.write("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", to: "locked.key")
    let cases: [(String, String, path: [String], says: String)] = [
      ("missing", "first.key", ["tls", "certificate"], "there is no file"),
      ("cert.crt", "missing", ["tls", "key"], "there is no file"),
      (".", "first.key", ["tls", "certificate"], "is a directory"),
      ("text", "first.key", ["tls", "certificate"], "holds no certificate"),
      ("first.key", "first.key", ["tls", "certificate"], "holds no certificate"),
      ("broken.crt", "first.key", ["tls", "certificate"], "cannot be read"),
      ("cert.crt", "text", ["tls", "key"], "holds no private key"),
      ("cert.crt", "locked.key", ["tls", "key"], "is encrypted"),
      ("cert.crt", "second.key", ["tls", "key"], "is not the key of the certificate"),
    ]
    for (certificate, key, path, says) in cases {
      let error = serverError(TLSServerOptions(certificate: certificate, key: key), directory)
      #expect(error?.path == path, "\(certificate) \(key)")
      #expect(error?.description.contains(says) == true, "\(String(describing: error))")
    }
    let options = TLSServerOptions(certificate: "cert.crt", key: "first.key", clientCa: "text")
    #expect(serverError(options, directory)?.path == ["tls", "client_ca"])
  }

  @Test("client options that contradict each other or say nothing usable are refused")
  func clientErrors() {
    let pin = String(repeating: "ab", count: 32)
    let cases: [(TLSClientOptions, path: [String])] = [
      (TLSClientOptions(serverName: "two words"), ["tls", "server_name"]),
      (TLSClientOptions(pinSha256: ["short"]), ["tls", "pin_sha256"]),
      (TLSClientOptions(pinSha256: []), ["tls", "pin_sha256"]),
      (TLSClientOptions(ca: "ca.pem", pinSha256: [pin]), ["tls", "pin_sha256"]),
      (TLSClientOptions(pinSha256: [pin], insecure: true), ["tls", "insecure"]),
      (TLSClientOptions(ca: "/nonexistent/ca.pem"), ["tls", "ca"]),
      (TLSClientOptions(insecure: true, certificate: "a.pem"), ["tls", "certificate"]),
      (TLSClientOptions(insecure: true, key: "a.pem"), ["tls", "key"]),
    ]
    for (options, path) in cases { #expect(clientError(options)?.path == path, "\(options)") }
    #expect(clientError(TLSClientOptions(pinSha256: [pin])) == nil)
  }

  @Test("a pin reads the same from hex, hex with colons, base64 and curl's form")
  func pinForms() throws {
    let hex = String(repeating: "0fA1", count: 16)
    let pin = try #require(CertificatePin(hex))
    let colons = stride(from: 0, to: 64, by: 2).map { String(hex.dropFirst($0).prefix(2)) }.joined(
      separator: ":"
    )
    #expect(CertificatePin(colons) == pin)
    #expect(CertificatePin(pin.description) == pin)
    #expect(CertificatePin("sha256/" + pin.description) == pin)
    #expect(CertificatePin("sha256/") == nil)
    #expect(CertificatePin(String(repeating: "zz", count: 32)) == nil)
    #expect(CertificatePin(String(hex.dropLast(2))) == nil)
  }
}
