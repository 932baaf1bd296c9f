import ArgumentParser
import Foundation
import MagicalaneCore

/// How a command finds the admin API and shows what it answered.
struct AdminOptions: ParsableArguments {
  /// Names the environment variable that holds the token. There is no option for it: `ps` would show it.
  static let tokenVariable = "MAGICALANE_ADMIN_TOKEN"

  @Option(
    help: ArgumentHelp(
      "Where the admin API listens: HOST:PORT or unix:/PATH (default: \(AdminAddress.standard)).",
      valueName: "address"
    ),
    transform: { text in
      do { return try AdminAddress(text) } catch { throw ValidationError("\(error)") }
    }
  )
  var admin: AdminAddress = .standard

  @Option(
    help: ArgumentHelp(
      "A file with the token of the admin API; without it \(AdminOptions.tokenVariable) is used.",
      valueName: "file"
    )
  )
  var tokenFile: String?

  @Flag(help: "Print the JSON of the admin API.")
  var json = false

  /// Runs a command's work with a client, and turns what went wrong into a message and a status.
  func perform(_ work: (AdminClient) async throws -> Void) async throws {
    let client = AdminClient(address: admin, token: try token())
    do {
      try await work(client)
    } catch let error as AdminClientError {
      throw Failure.running(error.message(admin, hasToken: client.token != nil))
    } catch StandardOutput.WriteError.closed {
      // Who read has seen enough, as in `magicalane sessions | head`.
    } catch let error as StandardOutput.WriteError {
      throw Failure.running("\(error)")
    }
  }

  private func token() throws(Failure) -> String? {
    guard let tokenFile else {
      let text = ProcessInfo.processInfo.environment[Self.tokenVariable] ?? ""
      return try text.isEmpty ? nil : AdminToken.read(text, from: Self.tokenVariable)
    }
    guard let file = FileHandle(forReadingAtPath: tokenFile),
      let bytes = try? file.read(upToCount: AdminToken.longest + 2)
    else { throw Failure.usage("--token-file '\(tokenFile.printable)' cannot be read") }
    return try AdminToken.read(String(decoding: bytes, as: UTF8.self), from: "--token-file '\(tokenFile)'")
  }
}

/// What a token may be.
enum AdminToken {
  /// In bytes.
  static let longest = 4096

  /// The token in a text, with the white space around it taken off.
  ///
  /// - Parameter place: what a message calls the text; the message never holds the token.
  static func read(_ text: String, from place: String) throws(Failure) -> String {
    let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard !token.isEmpty, token.utf8.count <= longest, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
    else {
      let place = place.printable
      throw Failure.usage("\(place) holds no token: expected one line of ASCII characters without spaces")
    }
    return token
  }
}
