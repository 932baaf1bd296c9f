import NIOCore
import NIOHTTP1
import NIOPosix

/// One request to the admin API.
struct AdminRequest: Equatable, Sendable {
  var method = HTTPMethod.GET
  /// Of characters that a path may hold as they are.
  var path: String
  /// Names and values as they are meant, not yet encoded.
  var query: [(name: String, value: String)] = []

  /// Path and query as they stand in the request line (RFC 9112 §3.2.1).
  var target: String {
    guard !query.isEmpty else { return path }
    let pairs = query.map { "\(Self.encoded($0.name))=\(Self.encoded($0.value))" }
    return "\(path)?\(pairs.joined(separator: "&"))"
  }

  static func == (left: AdminRequest, right: AdminRequest) -> Bool {
    left.method == right.method && left.target == right.target
  }

  /// All but the unreserved characters of RFC 3986 §2.3 as `%XX`.
  private static func encoded(_ text: String) -> String {
    text.utf8.reduce(into: "") { result, byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        result += byte < 0x10 ? "%0\(digits)" : "%\(digits)"
      }
    }
  }
}

/// What the admin API answered, whole.
struct AdminAnswer: Equatable, Sendable {
  var status: HTTPResponseStatus
  var contentType: String?
  var body: ByteBuffer
}

/// Asks the admin API of a running magicalane, with one connection for each request.
struct AdminClient: Sendable {
  var address: AdminAddress
  /// Sent as `Authorization: Bearer` (RFC 6750 §2.1).
  var token: String?
  /// From the first try to connect to the last byte of the answer.
  var timeout = TimeAmount.seconds(10)
  /// A longer body is refused; the longest list of the API is far below.
  var longestBody = 32 << 20

  /// The body of an answer that says that all went well.
  ///
  /// - Throws: `AdminClientError`; `CancellationError` where the task was cancelled.
  func body(_ request: AdminRequest) async throws -> ByteBuffer {
    let answer = try await send(request)
    guard (200..<300).contains(answer.status.code) else { throw AdminClientError.refused(answer) }
    return answer.body
  }

  /// Sends a request and waits for its answer, whatever that says.
  ///
  /// - Throws: `AdminClientError`; `CancellationError` where the task was cancelled.
  func send(_ request: AdminRequest) async throws -> AdminAnswer {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    // Several may complete it: the exchange, the deadline, the caller that gave up. The first counts.
    let answer = loop.makePromise(of: AdminAnswer.self)
    let head = head(request)
    let longestBody = longestBody
    let bootstrap = ClientBootstrap(group: loop)
      .connectTimeout(timeout)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHTTPClientHandlers()
          try channel.pipeline.syncOperations.addHandler(
            AdminExchange(head, answer: answer, longestBody: longestBody)
          )
        }
      }
    let connecting =
      switch address {
      case .tcp(let target): bootstrap.connect(host: target.host.description, port: target.port)
      case .unix(let path): bootstrap.connect(unixDomainSocketPath: path)
      }
    connecting.whenFailure { answer.fail(AdminClientError(connecting: $0)) }
    let deadline = loop.scheduleTask(in: timeout) { [timeout] in
      answer.fail(AdminClientError.timedOut(timeout))
    }
    answer.futureResult.whenComplete { _ in
      deadline.cancel()
      connecting.whenSuccess { $0.close(promise: nil) }
    }
    return try await withTaskCancellationHandler {
      try await answer.futureResult.get()
    } onCancel: {
      answer.fail(CancellationError())
    }
  }

  private func head(_ request: AdminRequest) -> HTTPRequestHead {
    var headers = HTTPHeaders([
      ("Host", address.authority), ("Accept", "application/json, application/problem+json"),
      ("Connection", "close"), ("User-Agent", "magicalane/\(Magicalane.version)"),
    ])
    if let token { headers.add(name: "Authorization", value: "Bearer \(token)") }
    if request.method == .POST { headers.add(name: "Content-Length", value: "0") }
    return HTTPRequestHead(version: .http1_1, method: request.method, uri: request.target, headers: headers)
  }
}

/// Sends one request on a connection and gathers its answer, on the connection's event loop.
final class AdminExchange: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let request: HTTPRequestHead
  private let answer: EventLoopPromise<AdminAnswer>
  private let longestBody: Int
  private var head: HTTPResponseHead?
  private var body = ByteBuffer()

  init(_ request: HTTPRequestHead, answer: EventLoopPromise<AdminAnswer>, longestBody: Int) {
    self.request = request
    self.answer = answer
    self.longestBody = longestBody
  }

  func channelActive(context: ChannelHandlerContext) {
    context.write(wrapOutboundOut(.head(request)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
    case .body(var part):
      guard body.readableBytes + part.readableBytes <= longestBody else {
        answer.fail(AdminClientError.tooLong(longestBody))
        return
      }
      body.writeBuffer(&part)
    case .end:
      guard let head else { return }
      let type = head.headers.first(name: "Content-Type")
      answer.succeed(AdminAnswer(status: head.status, contentType: type, body: body))
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    answer.fail(AdminClientError.brokenOff(reason: AdminClientError.reason(of: error)))
  }

  func channelInactive(context: ChannelHandlerContext) {
    answer.fail(AdminClientError.brokenOff(reason: "the connection was closed before the answer was whole"))
    context.fireChannelInactive()
  }
}
