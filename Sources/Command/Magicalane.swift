import ArgumentParser
import Foundation
import MagicalaneCore

/// The command line: `magicalane run | check | status | sessions | reload | explain | demo | cert | version`.
public struct Magicalane: AsyncParsableCommand {
  /// Names of the commands, for help.
  public static let configuration = CommandConfiguration(
    commandName: "magicalane",
    abstract: "Carries SOCKS5 and HTTP CONNECT over QUIC, TLS and TCP.",
    subcommands: [
      RunCommand.self, CheckCommand.self, StatusCommand.self, SessionsCommand.self, ReloadCommand.self,
      ExplainCommand.self, DemoCommand.self, CertCommand.self, VersionCommand.self,
    ]
  )

  /// For the argument parser.
  public init() {}

  /// The plugins that this program has; set once, before a command is parsed.
  @TaskLocal static var registry = Registry()

  /// Runs the command that the process was started with, then ends the process.
  ///
  /// Exit status: 0 fine; 1 failed while running; 2 bad usage or bad config.
  /// - Parameter registry: every plugin that a config may name.
  public static func main(_ registry: Registry) async -> Never {
    let status = await $registry.withValue(registry) { await run() }
    Foundation.exit(status)
  }

  private static func run() async -> Int32 {
    do {
      var command = try parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      return 0
    } catch let failure as Failure {
      printError(failure.message)
      return failure.status
    } catch {
      let text = fullMessage(for: error)
      if exitCode(for: error) == .success {
        print(text)
        return 0
      }
      printError(text)
      return 2
    }
  }
}

/// Ends the program with a message and a status.
struct Failure: Error {
  var message: String
  var status: Int32

  /// Wrong from the start: bad usage, bad config.
  static func usage(_ message: String) -> Failure { Failure(message: message, status: 2) }
  /// What `body` throws, as bad usage.
  static func usage<T>(_ body: () throws -> T) throws(Failure) -> T {
    do { return try body() } catch { throw .usage("\(error)") }
  }
  /// Went wrong while running.
  static func running(_ message: String) -> Failure { Failure(message: message, status: 1) }
}

func printError(_ text: String) {
  FileHandle.standardError.write(Data((text + "\n").utf8))
}
