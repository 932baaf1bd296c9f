// connecting ─► greeting sent ─► request sent ─► open
//      └──────── without a proxy ──────────────────┘
#include "session.h"

#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum step { CONNECTING, GREETED, REQUESTED };

static const size_t REPLY_LENGTH[] = {[GREETED] = 2, [REQUESTED] = 10};

static void give_up(struct session *session, const char *reason) {
  loop_close(&session->watch);
  session->failed(session, reason);
}

static void say(struct session *session, enum step step, const void *bytes, size_t count) {
  session->step = step;
  session->reply_length = 0;
  // So short that an empty socket always has the room.
  if (send(session->watch.fd, bytes, count, MSG_NOSIGNAL) != (ssize_t)count)
    give_up(session, "the proxy closed the connection");
}

static void connected(struct session *session) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(session->watch.fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) return give_up(session, strerror(error));
  loop_change(&session->watch, EPOLLIN);
  if (!session->options->has_proxy) return session->opened(session);
  say(session, GREETED, "\x05\x01\x00", 3);
}

static void request(struct session *session) {
  unsigned char bytes[10] = {5, 1, 0, 1};
  memcpy(bytes + 4, &session->options->target.sin_addr, 4);
  memcpy(bytes + 8, &session->options->target.sin_port, 2);
  say(session, REQUESTED, bytes, sizeof bytes);
}

static void opening_ready(struct watch *watch, uint32_t events) {
  (void)events;
  struct session *session = (struct session *)watch;
  if (session->step == CONNECTING) return connected(session);
  size_t missing = REPLY_LENGTH[session->step] - session->reply_length;
  ssize_t count = recv(watch->fd, session->reply + session->reply_length, missing, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return give_up(session, "the proxy closed the connection");
  if ((session->reply_length += (size_t)count) < REPLY_LENGTH[session->step]) return;
  if (session->reply[1] != 0) return give_up(session, "the proxy refused");
  if (session->step == GREETED) return request(session);
  // All proxies measured answer with an IPv4 address, for which the ten bytes are the whole reply.
  if (session->reply[3] != 1) return give_up(session, "the proxy answered with an address of another kind");
  session->opened(session);
}

void session_open(struct session *session, const struct options *options) {
  session->options = options;
  session->step = CONNECTING;
  session->watch = (struct watch){socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), opening_ready};
  if (session->watch.fd < 0) return session->failed(session, strerror(errno));
  int on = 1;
  setsockopt(session->watch.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const struct sockaddr_in *address = options->has_proxy ? &options->proxy : &options->target;
  loop_add(&session->watch, EPOLLOUT);
  if (connect(session->watch.fd, (const struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS)
    give_up(session, strerror(errno));
}

enum { AT_A_TIME = 64 };

static struct {
  const struct options *options;
  unsigned char *sessions;
  size_t size;
  uint32_t count, started, open;
} batch;

static void rest(struct watch *watch, uint32_t events) {
  (void)watch, (void)events;
  fail("a session ended right after it opened");
}

static void one_failed(struct session *session, const char *reason) {
  (void)session;
  fail("session %u of %u: %s", batch.open + 1, batch.count, reason);
}

static void open_next(void);

static void one_opened(struct session *session) {
  session->watch.ready = rest;
  if (++batch.open == batch.count) return loop_stop();
  open_next();
}

static void open_next(void) {
  if (batch.started == batch.count) return;
  struct session *session = (struct session *)(batch.sessions + batch.size * batch.started++);
  session->opened = one_opened;
  session->failed = one_failed;
  session_open(session, batch.options);
}

void *sessions_open(const struct options *options, uint32_t count, size_t size) {
  batch.options = options, batch.count = count, batch.size = size;
  batch.sessions = calloc(count, size);
  if (!batch.sessions) err(1, "calloc");
  for (int i = 0; i < AT_A_TIME; i++) open_next();
  if (!loop_run(now() + (uint64_t)(options->timeout * (double)SECOND)))
    fail("%u of %u sessions opened in %g s", batch.open, count, options->timeout);
  return batch.sessions;
}
