import CGnuTLS
import CNgtcp2
import MagicalaneCore

/// Why a QUIC connection ended.
enum QUICConnectionError: Error, Equatable, Sendable {
  /// Nothing arrived for the idle time-out (RFC 9000 §10.1).
  case idleTimeout
  /// The handshake took too long.
  case handshakeTimeout
  /// The peer lost the connection's state (RFC 9000 §10.3).
  case statelessReset
  /// The peer closed it, with this error code; 0 where it had no complaint.
  case closedByPeer(code: UInt64, isApplication: Bool)
  /// We closed it without a complaint.
  case closedHere
  /// TLS did not come about: a certificate that is refused, no common protocol.
  case tls(String)
  /// The peer broke the protocol, or the library failed: an `NGTCP2_ERR_…` value.
  case failed(code: Int32)
  /// The UDP socket could not be used, or the peer's host says that nothing listens there.
  case socket(OpenError.Kind, String)
}

extension QUICConnectionError: CustomStringConvertible {
  var description: String {
    switch self {
    case .idleTimeout: "the QUIC connection timed out"
    case .handshakeTimeout: "the QUIC handshake timed out"
    case .statelessReset: "the QUIC peer has lost the connection"
    case .closedByPeer(let code, let isApplication): QUICConnectionError.describe(code, isApplication)
    case .closedHere: "the QUIC connection was closed here"
    case .tls(let reason): "the QUIC handshake failed: \(reason)"
    case .failed(let code): "the QUIC connection failed: \(String(cString: ngtcp2_strerror(code)))"
    case .socket(_, let reason): reason
    }
  }

  /// TLS alerts travel as the transport errors 0x100 to 0x1ff (RFC 9001 §4.8).
  private static func describe(_ code: UInt64, _ isApplication: Bool) -> String {
    let number = "0x" + String(code, radix: 16)
    if isApplication { return "the QUIC peer closed the connection (\(number))" }
    if code == 0 { return "the QUIC peer closed the connection" }
    guard code >> 8 == 1 else { return "the QUIC peer closed the connection (transport error \(number))" }
    return "the QUIC peer refused the handshake: \(alertName(UInt8(truncatingIfNeeded: code)))"
  }

  /// What GnuTLS calls a TLS alert (RFC 8446 §6).
  static func alertName(_ alert: UInt8) -> String {
    gnutls_alert_get_name(gnutls_alert_description_t(rawValue: UInt32(alert))).map { String(cString: $0) }
      ?? "TLS alert \(alert)"
  }

  /// Whether to try again could help: everything but a peer that was refused or that refused us.
  var isTransient: Bool {
    switch self {
    case .tls: false
    case .closedByPeer(let code, let isApplication): isApplication || code >> 8 != 1
    default: true
    }
  }
}

/// Why a QUIC stream ended before both directions were finished.
enum QUICStreamError: Error, Equatable, Sendable {
  /// The peer gave up sending, with this code (RESET_STREAM, RFC 9000 §19.4).
  case reset(code: UInt64)
  /// The peer gave up reading (STOP_SENDING, RFC 9000 §19.5).
  case stopped
  /// The stream's connection ended.
  case connectionLost(QUICConnectionError)
  /// No more bytes can be sent on it.
  case outputClosed
}

extension QUICStreamError: CustomStringConvertible {
  var description: String {
    switch self {
    case .reset(let code): "the peer reset the QUIC stream (code \(code))"
    case .stopped: "the peer stopped reading the QUIC stream"
    case .connectionLost(let error): error.description
    case .outputClosed: "the QUIC stream's output is closed"
    }
  }
}

/// Application error codes of `magicalane/1` (RFC 9000 §20.2).
enum QUICApplicationCode {
  /// Nothing is wrong: the end of a connection, or of interest in a stream's input.
  static let none: UInt64 = 0
  /// The stream did not come to its end.
  static let aborted: UInt64 = 1
  /// This end takes no more streams.
  static let refused: UInt64 = 2
}
