// Bytes from here to the target, which counts them, over one stream or some, for a time or up to an amount.
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "pattern.h"
#include "request.h"
#include "session.h"

struct stream {
  struct session session;
  uint64_t place;
  struct receipt receipt;
  size_t receipt_length;
};

static uint32_t running;
static uint64_t amount;

static void receive(struct stream *stream) {
  unsigned char *receipt = (unsigned char *)&stream->receipt;
  size_t missing = sizeof stream->receipt - stream->receipt_length;
  ssize_t count = recv(stream->session.watch.fd, receipt + stream->receipt_length, missing, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) fail("a stream broke after %lu bytes", (unsigned long)stream->place);
  if ((stream->receipt_length += (size_t)count) < sizeof stream->receipt) return;
  if (stream->receipt.amount == UINT64_MAX) fail("wrong bytes came to the target");
  loop_close(&stream->session.watch);
  if (--running == 0) loop_stop();
}

static void ready(struct watch *watch, uint32_t events) {
  struct stream *stream = (struct stream *)watch;
  if (events & ~(uint32_t)EPOLLOUT) return receive(stream);
  uint64_t left = amount - stream->place;
  size_t most = left < PATTERN_RUN ? (size_t)left : PATTERN_RUN;
  ssize_t count = send(watch->fd, pattern_at(stream->place), most, MSG_NOSIGNAL);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count < 0) fail("a stream broke after %lu bytes", (unsigned long)stream->place);
  stream->place += (uint64_t)count;
  if (stream->place == amount) loop_change(watch, EPOLLIN);
}

int upload(const struct options *options) {
  running = options->streams;
  amount = options->bytes ? options->bytes : UINT64_MAX;
  struct stream *streams = sessions_open(options, options->streams, sizeof *streams);
  uint32_t milliseconds = options->bytes ? 0 : (uint32_t)(options->seconds * 1e3);
  struct transfer_request request = {UPLOAD, options->bytes, milliseconds};
  uint64_t started = now();
  for (uint32_t i = 0; i < options->streams; i++) {
    streams[i].session.watch.ready = ready;
    if (send(streams[i].session.watch.fd, &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
      fail("a stream takes no request");
    loop_change(&streams[i].session.watch, EPOLLIN | EPOLLOUT);
  }
  double seconds = options->timeout + (options->bytes ? 0 : options->seconds);
  if (!loop_run(started + (uint64_t)(seconds * (double)SECOND)))
    fail("the target did not say in %g s that all came", seconds);
  double took = (double)(now() - started) / (double)SECOND;
  uint64_t bytes = 0, least = UINT64_MAX;
  for (uint32_t i = 0; i < options->streams; i++) {
    bytes += streams[i].receipt.amount;
    if (streams[i].receipt.amount < least) least = streams[i].receipt.amount;
  }
  printf("{\"bytes\": %lu, \"seconds\": %.3f, \"megabytes_per_second\": %.2f, \"least_bytes\": %lu, "
         "\"load_cpu_seconds\": %.2f}\n",
         (unsigned long)bytes, took, (double)bytes / took / 1e6, (unsigned long)least, cpu_seconds());
  return 0;
}
