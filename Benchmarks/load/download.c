// Bytes from the target to here, over one stream or some, for a time or up to an amount.
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "pattern.h"
#include "request.h"
#include "session.h"

struct stream {
  struct session session;
  uint64_t place;
};

static unsigned char buffer[PATTERN_RUN];
static const struct options *settings;
static uint32_t running;

static void ready(struct watch *watch, uint32_t events) {
  (void)events;
  struct stream *stream = (struct stream *)watch;
  ssize_t count = recv(watch->fd, buffer, sizeof buffer, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count < 0) fail("a stream broke after %lu bytes", (unsigned long)stream->place);
  if (count == 0) {
    if (stream->place != settings->bytes) fail("a stream ended after %lu bytes", (unsigned long)stream->place);
    loop_close(watch);
    if (--running == 0) loop_stop();
    return;
  }
  if (!pattern_fits(buffer, (size_t)count, stream->place))
    fail("wrong bytes at %lu", (unsigned long)stream->place);
  stream->place += (uint64_t)count;
}

int download(const struct options *options) {
  settings = options;
  running = options->streams;
  struct stream *streams = sessions_open(options, options->streams, sizeof *streams);
  struct transfer_request request = {DOWNLOAD, options->bytes, 0};
  uint64_t started = now();
  for (uint32_t i = 0; i < options->streams; i++) {
    streams[i].session.watch.ready = ready;
    if (send(streams[i].session.watch.fd, &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
      fail("a stream takes no request");
  }
  double seconds = options->bytes ? options->timeout : options->seconds;
  bool ended = loop_run(started + (uint64_t)(seconds * (double)SECOND));
  if (options->bytes && !ended) fail("not all bytes came in %g s", seconds);
  double took = (double)(now() - started) / (double)SECOND;
  uint64_t bytes = 0, least = UINT64_MAX;
  for (uint32_t i = 0; i < options->streams; i++) {
    bytes += streams[i].place;
    if (streams[i].place < least) least = streams[i].place;
  }
  if (!least) fail("a stream brought nothing in %g s", took);
  printf("{\"bytes\": %lu, \"seconds\": %.3f, \"megabytes_per_second\": %.2f, \"least_bytes\": %lu, "
         "\"load_cpu_seconds\": %.2f}\n",
         (unsigned long)bytes, took, (double)bytes / took / 1e6, (unsigned long)least, cpu_seconds());
  return 0;
}
