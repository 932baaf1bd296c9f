// New sessions, some at a time: open, a byte there, a byte back, the target closes.
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "request.h"
#include "session.h"
#include "times.h"

struct stream {
  struct session session;
  uint64_t started;
  bool answered;
};

static const struct options *settings;

static void restart(struct stream *stream) {
  stream->started = now();
  stream->answered = false;
  session_open(&stream->session, settings);
}

// The session counts when its end has come through too.
static void ready(struct watch *watch, uint32_t events) {
  (void)events;
  struct stream *stream = (struct stream *)watch;
  unsigned char byte[2];
  ssize_t count = recv(watch->fd, byte, sizeof byte, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count == 1 && byte[0] == CONNECTION && !stream->answered) {
    stream->answered = true;
    times_add(now() - stream->started);
    return;
  }
  // A relay may end its side with a reset once all bytes are through.
  if (!stream->answered || count > 0) fail("a session ended without its byte, after %lu", (unsigned long)times_count());
  loop_close(watch);
  restart(stream);
}

static void opened(struct session *session) {
  session->watch.ready = ready;
  if (send(session->watch.fd, &(char){CONNECTION}, 1, MSG_NOSIGNAL) != 1) fail("a session takes no byte");
}

static void failed(struct session *session, const char *reason) {
  (void)session;
  fail("after %lu sessions: %s", (unsigned long)times_count(), reason);
}

int connections(const struct options *options) {
  settings = options;
  struct stream *streams = calloc(options->streams, sizeof *streams);
  if (!streams) err(1, "calloc");
  uint64_t started = now();
  for (uint32_t i = 0; i < options->streams; i++) {
    streams[i].session.opened = opened;
    streams[i].session.failed = failed;
    restart(&streams[i]);
  }
  loop_run(started + (uint64_t)(options->seconds * (double)SECOND));
  double took = (double)(now() - started) / (double)SECOND;
  if (!times_count()) fail("no session in %g s", took);
  printf("{\"sessions\": %lu, \"seconds\": %.3f, \"sessions_per_second\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
         "\"load_cpu_seconds\": %.2f}\n",
         (unsigned long)times_count(), took, (double)times_count() / took, times_at(0.5), times_at(0.99),
         cpu_seconds());
  return 0;
}
