import NIOCore
import NIOEmbedded

@testable import MagicalaneCore

/// A stream whose lower end a test plays: it feeds what comes in and reads what went out.
final class RecordedStream {
  enum Outbound: Equatable {
    case write(String)
    case flush
    case closeOutput
    case close
    case abort
    case read
  }

  let channel: EmbeddedChannel
  private let recorder: Recorder

  init(on loop: EmbeddedEventLoop, remote: String = "127.0.0.1") throws {
    channel = EmbeddedChannel(loop: loop)
    recorder = Recorder()
    try channel.pipeline.syncOperations.addHandler(recorder)
    try channel.connect(to: SocketAddress(ipAddress: "192.0.2.100", port: 1)).wait()
    channel.remoteAddress = try SocketAddress(ipAddress: remote, port: 1)
  }

  /// What reached the lower end so far, reads left out; it is forgotten by this call.
  func takeOutbound() -> [Outbound] {
    defer { recorder.events = [] }
    return recorder.events.filter { $0 != .read }
  }

  var readCount: Int { recorder.readCount }

  var isOver: Bool { recorder.events.contains(.close) || recorder.events.contains(.abort) }

  func receive(_ text: String) {
    channel.pipeline.fireChannelRead(ByteBuffer(string: text))
    channel.pipeline.fireChannelReadComplete()
  }

  func receiveEndOfStream() {
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
  }

  func receive(_ error: any Error) {
    channel.pipeline.fireErrorCaught(error)
  }

  func becomeInactive() {
    channel.pipeline.fireChannelInactive()
  }

  func setWritable(_ isWritable: Bool) {
    channel.isWritable = isWritable
    channel.pipeline.fireChannelWritabilityChanged()
  }

  /// Holds the promises of writes back, as a socket does whose kernel buffer is full.
  func holdWrites() { recorder.holdsWrites = true }

  func releaseWrites() { recorder.releaseWrites() }

  /// The lower end does not know `StreamAbort`.
  func ignoreAborts() { recorder.answersAbort = false }
}

private final class Recorder: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer

  var events: [RecordedStream.Outbound] = []
  var readCount = 0
  var holdsWrites = false
  var answersAbort = true
  private var waiting: [EventLoopPromise<Void>] = []

  func releaseWrites() {
    holdsWrites = false
    let promises = waiting
    waiting = []
    for promise in promises { promise.succeed() }
  }

  func read(context: ChannelHandlerContext) {
    readCount += 1
    events.append(.read)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    events.append(.write(String(buffer: unwrapOutboundIn(data))))
    if let promise { waiting.append(promise) }
  }

  func flush(context: ChannelHandlerContext) {
    events.append(.flush)
    if !holdsWrites { releaseWrites() }
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    events.append(mode == .output ? .closeOutput : .close)
    promise?.succeed()
  }

  func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?)
  {
    guard event is StreamAbort, answersAbort else {
      promise?.fail(ChannelError.operationUnsupported)
      return
    }
    events.append(.abort)
    promise?.succeed()
  }
}

/// Holds a pipeline somewhere inside: a failed expectation prints its operands, and NIO's pipelines cannot
/// print every handler's name.
protocol Unprintable: AnyObject, CustomReflectable {}

extension Unprintable {
  var customMirror: Mirror { Mirror(self, children: [:]) }
}

extension RecordedStream: Unprintable {}
