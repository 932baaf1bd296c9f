import MagicalaneCore
import NIOCore

/// What a connection tells the user of one of its streams.
protocol QUICStreamUser: AnyObject {
  /// Something about the stream changed: bytes arrived, it ended, or bytes were acknowledged. Called after a
  /// batch of packets, never from inside ngtcp2.
  func streamChanged()
  /// The connection ended; nothing more comes.
  func connectionLost(_ error: QUICConnectionError)
}

/// One bidirectional stream of a connection (RFC 9000 §2): what has arrived and what is on its way.
///
/// A record that ngtcp2's callbacks fill in; `QUICConnection` alone changes it.
final class QUICStream {
  /// RFC 9000 §2.1.
  let id: Int64
  /// Who wants to hear of it. The stream holds it until it is closed.
  var user: (any QUICStreamUser)?

  /// For the window and what is in it, and for what waits to be sent and acknowledged.
  private var inputClaim: MemoryClaim
  private var outputClaim: MemoryClaim

  /// What the peer may send before it is taken.
  var window: QUICStreamWindow
  /// In-order bytes that nobody took yet.
  var received: ReceiveQueue
  /// The peer's last byte is in `received`, or was.
  var isInputFinished = false
  /// The code of the peer's RESET_STREAM.
  var resetCode: UInt64?
  /// The peer sent STOP_SENDING; with which code, ngtcp2 does not tell.
  var isStopped = false
  /// The peer did not take all that we wanted to send before that.
  var isOutputLost = false

  var output = SendQueue()
  /// A FIN goes behind the last byte of `output`.
  var isFinishing = false
  var isFinSent = false
  /// RESET_STREAM was sent, or the peer asked for it: nothing more goes out.
  var isOutputDead = false

  /// Both directions are over and acknowledged; ngtcp2 has forgotten the stream.
  var isClosed = false
  /// It stands in the connection's list of streams that changed.
  var isMarkedChanged = false
  /// It stands in the connection's queue of streams that want to send.
  var isQueued = false
  /// It has as much on its way as `QUICGapLimit` allows; an acknowledgement gives it its next turn.
  var isHeldBack = false
  /// It stands in the connection's list of streams that wait for their window.
  var isListedBlocked = false

  init(id: Int64, windows: QUICWindows) {
    self.id = id
    inputClaim = MemoryClaim(windows.memory.budget)
    outputClaim = MemoryClaim(windows.memory.budget)
    window = QUICStreamWindow(windows)
    received = ReceiveQueue(batchSize: windows.batch)
  }

  /// Bytes arrived or were taken. What the peer may still send counts as far as the window grew: it cannot be
  /// taken back.
  func countInput() {
    let isOver = isInputFinished || isClosed || resetCode != nil
    inputClaim.hold(max(received.readableBytes, isOver ? 0 : window.grown))
  }

  /// Bytes were queued or acknowledged.
  func countOutput() {
    outputClaim.hold(output.held)
  }

  /// Whether there is something to send: bytes, or the FIN alone.
  var wantsToSend: Bool {
    !isOutputDead && !isFinSent && (output.unsent > 0 || isFinishing)
  }
}
