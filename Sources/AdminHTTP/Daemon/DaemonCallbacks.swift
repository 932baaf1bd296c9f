import CMicrohttpd

/// What libmicrohttpd calls, on its own thread: each finds its owner, makes one call and returns.
extension cmicrohttpd_callbacks {
  /// - Parameter owner: A `DaemonEngine`, borrowed.
  init(owner: UnsafeMutableRawPointer) {
    self.init(
      owner: owner,
      access: { _, connection, _, method, _, data, size, context in
        guard let connection, let method, let size, let exchange = context?.pointee.map(Exchange.borrowed)
        else {
          return .NO
        }
        let upload = UnsafeRawBufferPointer(start: data, count: size.pointee)
        size.pointee = 0
        return exchange.access(connection, method: String(cString: method), upload: upload)
      },
      request_line: { owner, target, connection in
        guard let owner, let connection else { return nil }
        return DaemonEngine.borrowed(owner).requestLine(target.map { String(cString: $0) } ?? "", connection)
      },
      completed: { _, _, context, _ in
        guard let retained = context?.pointee else { return }
        context?.pointee = nil
        // The retain of `requestLine`.
        let exchange = Unmanaged<Exchange>.fromOpaque(retained).takeRetainedValue()
        exchange.engine.finished(exchange)
      },
      connection: { owner, connection, context, event in
        guard let owner, let connection else { return }
        DaemonEngine.borrowed(owner).notify(event, connection, context)
      },
      log: { owner, line in
        guard let owner, let line else { return }
        DaemonEngine.borrowed(owner).log(String(cString: line))
      }
    )
  }
}

extension DaemonEngine {
  fileprivate static func borrowed(_ owner: UnsafeMutableRawPointer) -> DaemonEngine {
    Unmanaged<DaemonEngine>.fromOpaque(owner).takeUnretainedValue()
  }

  /// A request has begun.
  ///
  /// - Returns: The library's context pointer, retained; `completed` takes it back.
  fileprivate func requestLine(_ target: String, _ connection: OpaquePointer) -> UnsafeMutableRawPointer {
    let id = UInt(bitPattern: cmicrohttpd_context(connection))
    let exchange = Exchange(engine: self, connection: connection, id: id, target: target)
    began(exchange)
    return Unmanaged.passRetained(exchange).toOpaque()
  }

  /// The connection's context is its number, which owns nothing.
  fileprivate func notify(
    _ event: MHD_ConnectionNotificationCode,
    _ connection: OpaquePointer,
    _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
  ) {
    if event == .CONNECTION_NOTIFY_STARTED {
      context?.pointee = UnsafeMutableRawPointer(bitPattern: opened(connection))
    } else {
      closed(UInt(bitPattern: context?.pointee))
    }
  }

  fileprivate func log(_ line: String) {
    logger.debug("libmicrohttpd", metadata: ["line": "\(line.trimmedLineEnd)"])
  }
}

extension Exchange {
  fileprivate static func borrowed(_ context: UnsafeMutableRawPointer) -> Exchange {
    Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
  }

  fileprivate func access(
    _ connection: OpaquePointer,
    method: String,
    upload: UnsafeRawBufferPointer
  ) -> MHD_Result {
    switch advance(connection, method: method, upload: upload) {
    case .wait: return .YES
    case .abandon: return .NO
    case .respond(let response):
      willSend(response)
      return queue(engine.hasEnded(connectionID) ? response.closing : response, on: connection)
    }
  }

  private func advance(
    _ connection: OpaquePointer,
    method: String,
    upload: UnsafeRawBufferPointer
  ) -> Step {
    guard hasBegun else { return begin(method: method, headers: HTTPFields(of: connection)) }
    return upload.isEmpty ? proceed() : receive(upload)
  }

  /// Gives the response to the library, whose connection holds the only reference afterwards.
  private func queue(_ response: AdminResponse, on connection: OpaquePointer) -> MHD_Result {
    guard let raw = rawResponse(response.body) else { return .NO }
    defer { MHD_destroy_response(raw) }
    var headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    if headers["Cache-Control"] == nil { headers["Cache-Control"] = "no-store" }
    for field in headers.fields where MHD_add_response_header(raw, field.name, field.value) != .YES {
      engine.logger.debug("a header that cannot be sent was left out", metadata: ["name": "\(field.name)"])
    }
    return MHD_queue_response(connection, UInt32(clamping: response.status), raw)
  }

  private func rawResponse(_ body: AdminResponse.Body) -> OpaquePointer? {
    switch body {
    case .bytes(let bytes):
      return bytes.withUnsafeBytes { cmicrohttpd_bytes($0.baseAddress, $0.count) }
    case .stream:
      // Borrowed: the library reads no more once it has said that the request is completed.
      return cmicrohttpd_stream(
        { owner, _, buffer, count in
          guard let owner, let buffer else { return -2 }
          return Exchange.borrowed(owner).read(
            into: UnsafeMutableRawBufferPointer(start: buffer, count: count)
          )
        },
        Unmanaged.passUnretained(self).toOpaque()
      )
    }
  }
}

extension HTTPFields {
  /// The head of the request that a connection is at.
  fileprivate init(of connection: OpaquePointer) {
    self.init()
    withUnsafeMutablePointer(to: &self) { fields in
      cmicrohttpd_headers(
        connection,
        { fields, _, name, nameSize, value, valueSize in
          let name = UnsafeRawBufferPointer(start: name, count: nameSize)
          let value = UnsafeRawBufferPointer(start: value, count: valueSize)
          fields?.assumingMemoryBound(to: HTTPFields.self).pointee
            .add(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
          return .YES
        },
        fields
      )
    }
  }
}

extension String {
  fileprivate var trimmedLineEnd: Substring {
    var text = self[...]
    while text.last?.isNewline == true { text.removeLast() }
    return text
  }
}
