import Foundation
import NIOCore

/// The answers of the admin API, as far as the commands show them; openapi.yaml says what they mean.
enum AdminAPI {
  struct Status: Decodable {
    struct Config: Decodable {
      var generation: Int
      var origin: String
      var applied: String
      var source: String
    }

    struct Memory: Decodable {
      var limit: UInt64
      var used: UInt64
    }

    var version: String
    var started: String
    var uptimeSeconds: Double
    var state: String
    var config: Config
    var sessions: Int
    var frontends: Int
    var transports: Int
    var retiring: Int
    var eventLoops: Int
    var memory: Memory
  }

  struct LastError: Decodable {
    var time: String
    var message: String
  }

  struct Frontend: Decodable {
    struct Status: Decodable {
      var state: String
      var listen: String
      var transport: String
      var sessions: Int
      var sessionsTotal: UInt64
      var failedTotal: UInt64
      var bytesUp: UInt64
      var bytesDown: UInt64
      var lastError: LastError?
    }

    var name: String
    var type: String
    var status: Status
  }

  struct Frontends: Decodable {
    var frontends: [Frontend]
  }

  struct Transport: Decodable {
    struct Status: Decodable {
      var health: String
      var frontends: [String]
      var sessions: Int
      var sessionsTotal: UInt64
      var failedTotal: UInt64
      var bytesUp: UInt64
      var bytesDown: UInt64
      var lastError: LastError?
    }

    var name: String
    var type: String
    var status: Status
  }

  struct Transports: Decodable {
    var transports: [Transport]
  }

  struct Session: Decodable {
    var id: UInt64
    var state: String
    var frontend: String
    var transport: String
    var member: String?
    var client: String?
    var user: String?
    var target: String?
    var ageSeconds: Double
    var bytesUp: UInt64
    var bytesDown: UInt64
    var waitingUp: UInt64
    var waitingDown: UInt64
  }

  struct Sessions: Decodable {
    var sessions: [Session]
    var total: Int
  }

  struct Change: Decodable {
    struct Entries: Decodable {
      var added: [String]
      var changed: [String]
      var removed: [String]
    }

    struct Changes: Decodable {
      var frontends: Entries
      var transports: Entries
      var sections: [String]
    }

    var generation: Int
    var dryRun: Bool
    var changes: Changes
  }

  /// Reads a body.
  ///
  /// - Throws: `AdminClientError.unexpected` where it does not have the shape.
  static func decode<Shape: Decodable>(_ shape: Shape.Type, _ body: ByteBuffer) throws(AdminClientError)
    -> Shape
  {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      return try decoder.decode(shape, from: Data(body.readableBytesView))
    } catch DecodingError.keyNotFound(let key, _) {
      throw .unexpected(reason: "'\(key.stringValue)' is missing")
    } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context) {
      let path = context.codingPath.map(\.stringValue).joined(separator: ".")
      throw .unexpected(reason: path.isEmpty ? "it is no object" : "'\(path)' is of another type")
    } catch {
      throw .unexpected(reason: "it is no JSON")
    }
  }

  /// A time of the API; nil where it is none (RFC 3339 with or without fractions).
  static func time(_ text: String) -> Date? {
    (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
      ?? (try? Date(text, strategy: .iso8601))
  }
}
