// 64 bytes to the target and back, again and again, on each of some streams.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "pattern.h"
#include "request.h"
#include "session.h"
#include "times.h"

enum { SIZE = 64 };

struct stream {
  struct session session;
  uint64_t place, sent_at;
  size_t received;
  unsigned char bytes[SIZE];
};

static void ping(struct stream *stream) {
  stream->received = 0;
  stream->sent_at = now();
  if (send(stream->session.watch.fd, pattern_at(stream->place), SIZE, MSG_NOSIGNAL) != SIZE)
    fail("a stream takes no bytes");
}

static void ready(struct watch *watch, uint32_t events) {
  (void)events;
  struct stream *stream = (struct stream *)watch;
  ssize_t count = recv(watch->fd, stream->bytes + stream->received, SIZE - stream->received, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) fail("a stream broke after %lu bytes", (unsigned long)stream->place);
  if ((stream->received += (size_t)count) < SIZE) return;
  if (memcmp(stream->bytes, pattern_at(stream->place), SIZE)) fail("wrong bytes came back");
  times_add(now() - stream->sent_at);
  stream->place += SIZE;
  ping(stream);
}

int echo(const struct options *options) {
  struct stream *streams = sessions_open(options, options->streams, sizeof *streams);
  uint64_t started = now();
  for (uint32_t i = 0; i < options->streams; i++) {
    streams[i].session.watch.ready = ready;
    if (send(streams[i].session.watch.fd, "E", 1, MSG_NOSIGNAL) != 1) fail("a stream takes no request");
    ping(&streams[i]);
  }
  loop_run(started + (uint64_t)(options->seconds * (double)SECOND));
  double took = (double)(now() - started) / (double)SECOND;
  for (uint32_t i = 0; i < options->streams; i++)
    if (!streams[i].place) fail("a stream echoed nothing in %g s", took);
  printf("{\"echoes\": %lu, \"seconds\": %.3f, \"echoes_per_second\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
         "\"max_ms\": %.4f, \"load_cpu_seconds\": %.2f",
         (unsigned long)times_count(), took, (double)times_count() / took, times_at(0.5), times_at(0.99),
         times_at(1), cpu_seconds());
  if (options->tells_each) {
    printf(", \"each_ms\": ");
    times_print();
  }
  puts("}");
  return 0;
}
