#pragma once

#include <stdint.h>

/// What the kernel counted of a TCP connection since it began (struct tcp_info); a count goes on from 0 behind
/// its largest value.
struct cpath_tcp {
  /// Segments with payload, repeated ones included.
  uint32_t sent;
  /// Segments that were sent again.
  uint32_t repeated;
  /// Segments of which the peer said that they came twice (DSACK, RFC 2883).
  uint32_t doubled;
  /// In microseconds; 0 before the first.
  uint32_t round_trip;
  /// In microseconds.
  uint32_t variation;
  /// Whether the kernel is new enough to tell `doubled`.
  int tells_doubled;
};

/// Reads them. Returns 0, or minus the errno; -ENOSYS where the kernel is too old to tell `sent`.
int cpath_tcp_read(int socket, struct cpath_tcp *counts);
