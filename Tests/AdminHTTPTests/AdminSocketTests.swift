import Foundation
import Testing

@testable import MagicalaneAdminHTTP

private func error(_ listen: String) -> AdminSocketError.Reason? {
  do throws(AdminSocketError) {
    _ = try AdminSocket.bind(listen)
    return nil
  } catch {
    return error.reason
  }
}

/// A directory that is removed afterwards.
func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

@Suite struct AdminSocketTests {
  @Test func `a port in use is a clear error`() throws {
    let taken = try #require(try AdminSocket.bind("127.0.0.1:0").first)
    let listen = taken.address
    let problem = #expect(throws: AdminSocketError.self) { try AdminSocket.bind(listen) }
    #expect(problem?.description == "cannot listen on \(listen): the port is in use by another process")
    taken.close()
    #expect(error(listen) == nil)
  }

  @Test func `an address of another machine, a wrong text and an unknown name are told apart`() {
    #expect(error("192.0.2.1:0") == .notOurs)
    #expect(error("127.0.0.1") == .malformed)
    #expect(error("unix:") == .pathTooLong)
    guard case .unresolved = error("no-such-name.invalid:0") else {
      Issue.record("expected unresolved")
      return
    }
  }

  @Test func `each address of a name gets a socket on the same port`() throws {
    let sockets = try AdminSocket.bind("localhost:0")
    #expect(!sockets.isEmpty)
    #expect(Set(sockets.map(\.port)).count == 1)
    #expect(Set(sockets.map(\.address)).count == sockets.count)
  }

  @Test func `a Unix socket is its owner's alone and goes when it closes`() async throws {
    try await withDirectory { directory in
      let path = directory + "/admin.sock"
      let socket = try #require(try AdminSocket.bind("unix:" + path).first)
      let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
      #expect(mode == 0o600)
      #expect(error("unix:" + path) == .inUse)
      socket.close()
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func `a stale Unix socket is replaced, and another file is not`() async throws {
    try await withDirectory { directory in
      let path = directory + "/admin.sock"
      let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = try #require(UnixAddress(path))
      #expect(address.with { system_bind(stale, $0, $1) } == 0)
      close(stale)
      let fresh = try #require(try AdminSocket.bind("unix:" + path).first)
      fresh.close()
      #expect(FileManager.default.createFile(atPath: path, contents: nil))
      #expect(error("unix:" + path) == .notASocket)
      #expect(FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func `a closing socket leaves alone what another process put in its place`() async throws {
    try await withDirectory { directory in
      let path = directory + "/admin.sock"
      let socket = try #require(try AdminSocket.bind("unix:" + path).first)
      try FileManager.default.moveItem(atPath: path, toPath: path + ".old")
      let other = try #require(try AdminSocket.bind("unix:" + path).first)
      socket.close()
      #expect(FileManager.default.fileExists(atPath: path))
      other.close()
    }
  }

  @Test func `a path that is too long or has no directory is an error`() {
    #expect(error("unix:/" + String(repeating: "a", count: 107)) == .pathTooLong)
    #expect(error("unix:/no/such/directory/x.sock") == .noDirectory)
  }
}
