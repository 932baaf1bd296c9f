/// What one HTTP daemon spends on its clients at most.
struct HTTPLimits: Sendable {
  /// Connections at a time, but at most a quarter of the file descriptors that the process may have; those
  /// beyond wait in the listen queue.
  var connections = 1024
  /// Bytes of the library's own memory for one connection; also bounds the head of a request.
  var connectionMemory = 24 * 1024
  /// Bytes of one body; a longer one gets 413.
  var body = 4 * 1024 * 1024
  /// Bytes of all bodies together that are being received or answered; over that, 503.
  var bodies = 64 * 1024 * 1024
  /// How much of a body that is refused anyway is read and dropped, so that the client, which sends first and
  /// reads then, gets to see why. Over that the connection closes.
  var discard = 16 * 1024 * 1024
  /// From connecting, or from the request line on a connection that was used before, to the request's end.
  var request = Duration.seconds(10)
  /// Between two requests on one connection, up to the second one's request line.
  var idle = Duration.seconds(30)
  /// For the client to take a response, or the next piece of a stream.
  var response = Duration.seconds(30)
  /// Between two heartbeats of a stream.
  var heartbeat = Duration.seconds(10)
  /// How often deadlines are looked at.
  var sweep = Duration.seconds(1)
  /// How long `stop` lets requests that are being answered finish.
  var grace = Duration.seconds(2)
}
