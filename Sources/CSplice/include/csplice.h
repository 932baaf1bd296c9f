#pragma once

#include <stddef.h>

/// Moves up to `count` bytes between two descriptors, one of which is a pipe, without a copy to user space.
/// Never waits. Returns how many, 0 at the end of the stream, or minus the errno.
///
/// Without SPLICE_F_MORE: it makes TCP hold back a short segment for 200 ms.
long csplice_move(int from, int to, size_t count);

/// Makes a pipe that neither waits nor outlives an exec, and asks for that capacity. Returns what it got, or
/// minus the errno.
int csplice_pipe(int ends[2], int capacity);

/// The shortest round trip that a TCP socket has seen, in microseconds, or minus the errno. The greatest 32-bit
/// number where it has seen none.
long csplice_least_round_trip(int socket);

/// Fixes how many bytes a TCP socket may have on their way; the kernel grows that no more. Returns 0 or minus the
/// errno.
int csplice_limit_sending(int socket, int bytes);

/// What the kernel tells of a descriptor.
struct csplice_event {
  int descriptor;
  /// There are bytes to read, or the end of the stream.
  int readable;
  int writable;
  /// An error, or both directions have ended.
  int broken;
};

/// A poller (epoll), and a bell (eventfd) that wakes it. Each returns a descriptor, or minus the errno.
int csplice_poller(void);
int csplice_bell(void);

/// Watches the reading side of a bell.
int csplice_watch_bell(int poller, int bell);

/// Watches a socket for changes, each told once (edge-triggered). Returns 0 or minus the errno.
int csplice_watch(int poller, int socket);
void csplice_unwatch(int poller, int socket);

/// Waits for changes, for ever where `timeout` is -1. Returns how many there are.
int csplice_wait(int poller, struct csplice_event *events, int count, int timeout);

void csplice_ring(int bell);
void csplice_unring(int bell);
