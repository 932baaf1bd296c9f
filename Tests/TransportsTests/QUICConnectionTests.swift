import NIOCore
import Testing

@testable import MagicalaneTransports

@Suite struct QUICConnectionTests {
  @Test("both ends complete the handshake and agree on the application protocol")
  func handshake() throws {
    let link = try QUICTestLink()
    #expect(link.handshake())
    #expect(link.client.closed == nil)
  }

  @Test("bytes and the end of a stream arrive in order, in both directions")
  func echo() throws {
    let link = try QUICTestLink()
    link.handshake()
    let stream = try #require(link.client.connection.openStream())
    let question = pattern(300_000)
    link.client.connection.write(question, on: stream)
    link.client.connection.finish(stream)
    let server = try #require(link.server)
    #expect(link.run { server.opened.first?.isInputFinished == true })
    let accepted = try #require(server.opened.first)
    let heard = server.connection.take(from: accepted)
    #expect(heard == question)
    server.connection.write(heard, on: accepted)
    server.connection.finish(accepted)
    #expect(link.run { stream.isInputFinished })
    #expect(link.client.connection.take(from: stream) == question)
    #expect(link.run { stream.isClosed && accepted.isClosed })
    #expect(link.client.connection.streams.isEmpty)
    #expect(stream.output.held == 0)
  }
}
