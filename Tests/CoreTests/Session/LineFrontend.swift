import Logging
import NIOConcurrencyHelpers
import NIOCore

@testable import MagicalaneCore

/// The smallest frontend: a line with a target; `+` or `-` and the cause come back. `?` asks for a greeting, and
/// `#` with a leg for reports.
struct LineFrontend: Frontend {
  static let type = "line"
  init(options: NoOptions = NoOptions(), context: FrontendContext) {}
  func makeHandshake() -> LineHandshake { LineHandshake() }
}

struct LineHandshake: FrontendHandshake {
  mutating func receive(_ bytes: inout ByteBuffer) -> HandshakeStep {
    guard let end = bytes.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) else {
      return bytes.readableBytes > 64
        ? .refuse(ByteBuffer(string: "long"), reason: "line too long") : .needMore
    }
    let line = bytes.readString(length: end - bytes.readerIndex) ?? ""
    bytes.moveReaderIndex(forwardBy: 1)
    if line.first == "#", let leg = LegID(String(line.dropFirst())) { return .report(leg, user: nil) }
    if line == "?" { return .send(ByteBuffer(string: "!")) }
    guard let target = Target(line) else { return .refuse(ByteBuffer(string: "bad"), reason: "no target") }
    return .open(target, user: nil)
  }
  mutating func accepted() -> ByteBuffer { ByteBuffer(string: "+") }
  mutating func refused(_ error: OpenError) -> ByteBuffer { ByteBuffer(string: "-\(error.kind)") }
}

/// A transport whose answers a test gives.
final class ScriptedTransport: Transport {
  static let type = "scripted"
  private let waiting = NIOLockedValueBox<
    [(request: ConnectRequest, promise: EventLoopPromise<any Channel>)]
  >([])

  init(options: NoOptions, context: TransportContext) {}
  init() {}

  var requests: [ConnectRequest] { waiting.withLockedValue { $0.map(\.request) } }

  func connect(_ request: ConnectRequest, on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    let promise = loop.makePromise(of: (any Channel).self)
    waiting.withLockedValue { $0.append((request, promise)) }
    return promise.futureResult
  }

  func answer(_ result: Result<any Channel, any Error>, request index: Int = 0) {
    waiting.withLockedValue { $0[index].promise }.completeWith(result)
  }
}
