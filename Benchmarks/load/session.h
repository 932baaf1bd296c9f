// One way to the target: a connection, through a SOCKS5 proxy (RFC 1928) where there is one.
#pragma once

#include "commands.h"
#include "loop.h"

struct session {
  struct watch watch;  // first: a watch is cast to its session
  const struct options *options;
  void (*opened)(struct session *);
  // Called with the reason; the session is closed.
  void (*failed)(struct session *, const char *reason);
  int step;
  size_t reply_length;
  unsigned char reply[10];
};

// Starts to open; `opened` is called when the target can be spoken to, with the watch for reading and its
// `ready` for the caller to set.
void session_open(struct session *session, const struct options *options);

// Opens `count` sessions of `size` bytes that start with a `struct session`, at most 64 at a time, or ends the
// program with an error.
void *sessions_open(const struct options *options, uint32_t count, size_t size);
