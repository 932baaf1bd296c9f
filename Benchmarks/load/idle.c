// Sessions that are open, have carried an echo, and then do nothing.
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "request.h"
#include "session.h"

static uint32_t answered, count;
static bool all_open;

static void ready(struct watch *watch, uint32_t events) {
  (void)events;
  char byte;
  ssize_t length = recv(watch->fd, &byte, 1, 0);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (length != 1 || all_open) fail("a session ended while %u of %u were open", answered, count);
  if (++answered == count) loop_stop();
}

int idle(const struct options *options) {
  count = options->streams;
  struct session *sessions = sessions_open(options, count, sizeof *sessions);
  for (uint32_t i = 0; i < count; i++) {
    sessions[i].watch.ready = ready;
    if (send(sessions[i].watch.fd, "Ei", 2, MSG_NOSIGNAL) != 2) fail("a session takes no bytes");
  }
  if (!loop_run(now() + (uint64_t)(options->timeout * (double)SECOND)))
    fail("%u of %u sessions answered in %g s", answered, count, options->timeout);
  all_open = true;
  printf("{\"sessions\": %u}\n", count);
  fflush(stdout);
  watch_stdin();
  loop_run(UINT64_MAX);
  return 0;
}
