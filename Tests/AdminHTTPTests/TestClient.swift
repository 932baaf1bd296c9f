import Foundation
import Testing

@testable import MagicalaneAdminHTTP

/// Runs blocking calls off the threads of tasks, which the handlers under test need.
func blocking<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
  try await withCheckedThrowingContinuation { done in
    // Not on a global queue: they are few, and run the tasks too.
    Thread.detachNewThread { done.resume(with: .init(catching: body)) }
  }
}

/// A client that sends exactly the bytes it is told to. Every call gives up after five seconds.
final class TestClient {
  struct Failure: Error {
    var call: String
    var number = errno
  }

  let descriptor: Int32

  init(_ socket: AdminSocket) throws {
    let bound: Int32
    if let port = socket.port {
      descriptor = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      bound = TCPAddress(ip: .v4(0x7f00_0001)).with(port: port) { connect(descriptor, $0, $1) }
    } else {
      descriptor = Foundation.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = try #require(UnixAddress(String(socket.address.dropFirst("unix:".count))))
      bound = address.with { [descriptor] in connect(descriptor, $0, $1) }
    }
    guard bound == 0 else { throw Failure(call: "connect") }
    var limit = timeval(tv_sec: 60, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
  }

  deinit {
    close(descriptor)
  }

  func send(_ text: String) throws {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes {
        Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard sent > 0 else { throw Failure(call: "send") }
      rest = rest.dropFirst(sent)
    }
  }

  /// Nothing more will be sent.
  func endInput() {
    shutdown(descriptor, Int32(SHUT_WR))
  }

  /// Reads until the text so far satisfies a condition.
  func read(until isEnough: (String) -> Bool) throws -> String {
    var text = ""
    while !isEnough(text) {
      guard let more = try read() else { throw Failure(call: "read until; got \(text)") }
      text += more
    }
    return text
  }

  /// Reads until the other side closes; a reset is a close too.
  func readToEnd() throws -> String {
    var text = ""
    while let more = try read() { text += more }
    return text
  }

  /// Sends a request and reads a response that has a Content-Length.
  func exchange(_ request: String) throws -> String {
    try send(request)
    return try read { text in
      guard let head = text.firstRange(of: "\r\n\r\n") else { return false }
      let field = text[..<head.lowerBound].split(separator: "\r\n").first {
        $0.lowercased().hasPrefix("content-length:")
      }
      let length = field.flatMap { Int($0.drop { !$0.isNumber }) } ?? 0
      return text[head.upperBound...].utf8.count >= length
    }
  }

  private func read() throws -> String? {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    if count < 0 && errno == ECONNRESET { return nil }
    guard count >= 0 else { throw Failure(call: "recv") }
    return count == 0 ? nil : String(decoding: buffer.prefix(count), as: UTF8.self)
  }
}

extension String {
  /// The status of the response it starts with.
  var status: Int? {
    split(separator: " ").dropFirst().first.flatMap { Int($0) }
  }

  /// What follows the head.
  var afterHead: String {
    firstRange(of: "\r\n\r\n").map { String(self[$0.upperBound...]) } ?? ""
  }
}
