import MagicalaneCore
import NIOCore

/// How a handshake went when its client's bytes came in the given pieces.
struct Play: Equatable {
  enum End: Equatable {
    case wantsMore
    case open(Target, user: String?)
    case report(LegID, user: String?)
    case refused
  }

  var sent: [UInt8] = []
  var end = End.wantsMore
  /// What is left in front of the handshake: an unfinished message, or payload.
  var left: [UInt8] = []

  var sentText: String { String(decoding: sent, as: UTF8.self) }

  /// Plays until the handshake ends or the pieces do; after the end, pieces pile up as payload.
  init(_ handshake: some FrontendHandshake, _ pieces: [[UInt8]]) {
    var handshake = handshake
    var bytes = ByteBuffer()
    for piece in pieces {
      bytes.writeBytes(piece)
      while end == .wantsMore {
        let step = handshake.receive(&bytes)
        if case .needMore = step { break }
        take(step)
      }
    }
    left = Array(bytes.readableBytesView)
  }

  private mutating func take(_ step: HandshakeStep) {
    switch step {
    case .needMore: break
    case .send(let reply): sent += reply.readableBytesView
    case .open(let target, let user): end = .open(target, user: user)
    case .report(let leg, let user): end = .report(leg, user: user)
    case .refuse(let reply, _):
      sent += reply?.readableBytesView ?? ByteBufferView()
      end = .refused
    }
  }

  init(_ handshake: some FrontendHandshake, _ bytes: [UInt8]) {
    self.init(handshake, [bytes])
  }

  init(_ handshake: some FrontendHandshake, _ text: String) {
    self.init(handshake, [Array(text.utf8)])
  }
}

/// Every way to cut the bytes in two, and the way of single bytes.
func cuts(of bytes: [UInt8]) -> [[[UInt8]]] {
  (0...bytes.count).map { [Array(bytes[..<$0]), Array(bytes[$0...])] } + [bytes.map { [$0] }]
}

/// The same numbers at each run (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
  var seed: UInt64

  mutating func next() -> UInt64 {
    seed &+= 0x9e37_79b9_7f4a_7c15
    var value = seed
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }
}

extension UserList {
  static let alice = UserList([Credentials(user: "alice", password: "s:ecret")])
}
