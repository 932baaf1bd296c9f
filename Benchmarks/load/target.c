// The far end of all measurements: sends, takes, echoes, or answers one byte, as the first byte asks for.
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "loop.h"
#include "pattern.h"
#include "request.h"

struct connection {
  struct watch watch;  // first: a watch is cast to its connection
  struct transfer_request request;
  size_t request_length;
  uint64_t place, started;
  struct pending *pending;  // echo: what the client has not taken yet; owned, NULL while there is none
  bool answered, wrong;
};

struct pending {
  size_t start, end;
  unsigned char bytes[64 * 1024];
};

static unsigned char buffer[PATTERN_RUN];

static void end(struct connection *connection) {
  loop_close(&connection->watch);
  free(connection->pending);
  free(connection);
}

static bool is_waiting(ssize_t count) { return count < 0 && (errno == EAGAIN || errno == EINTR); }

static void send_pattern(struct connection *connection) {
  uint64_t amount = connection->request.amount ? connection->request.amount : UINT64_MAX;
  for (int turns = 0; turns < 4 && connection->place < amount; turns++) {
    uint64_t left = amount - connection->place;
    size_t count = left < PATTERN_RUN ? (size_t)left : PATTERN_RUN;
    ssize_t sent = send(connection->watch.fd, pattern_at(connection->place), count, MSG_NOSIGNAL);
    if (is_waiting(sent)) return;
    if (sent < 0) return end(connection);
    connection->place += (uint64_t)sent;
  }
  if (connection->place == amount) end(connection);
}

static void answer(struct connection *connection) {
  connection->answered = true;
  struct receipt receipt = {connection->wrong ? UINT64_MAX : connection->place, now() - connection->started};
  send(connection->watch.fd, &receipt, sizeof receipt, MSG_NOSIGNAL);
}

// After the answer the rest is read and forgotten, so that a close does not become a reset that takes it away.
static void sink(struct connection *connection, const unsigned char *bytes, size_t count) {
  if (connection->answered) return;
  struct transfer_request *request = &connection->request;
  if (!pattern_fits(bytes, count, connection->place)) connection->wrong = true;
  connection->place += count;
  bool over = request->milliseconds && now() - connection->started >= request->milliseconds * (SECOND / 1000);
  if (over || (request->amount && connection->place >= request->amount)) answer(connection);
}

static void send_back(struct connection *connection, const unsigned char *bytes, size_t count) {
  ssize_t sent = count ? send(connection->watch.fd, bytes, count, MSG_NOSIGNAL) : 0;
  if (sent < 0 && !is_waiting(sent)) return end(connection);
  size_t done = sent < 0 ? 0 : (size_t)sent;
  if (done == count) return;
  struct pending *pending = connection->pending = malloc(sizeof *pending);
  if (!pending) err(1, "malloc");
  pending->start = 0, pending->end = count - done;
  memcpy(pending->bytes, bytes + done, count - done);
  loop_change(&connection->watch, EPOLLOUT);
}

static void send_pending(struct connection *connection) {
  struct pending *pending = connection->pending;
  ssize_t sent =
      send(connection->watch.fd, pending->bytes + pending->start, pending->end - pending->start, MSG_NOSIGNAL);
  if (is_waiting(sent)) return;
  if (sent < 0) return end(connection);
  pending->start += (size_t)sent;
  if (pending->start < pending->end) return;
  free(pending);
  connection->pending = NULL;
  loop_change(&connection->watch, EPOLLIN);
}

static size_t request_size(uint8_t kind) {
  return kind == DOWNLOAD || kind == UPLOAD ? sizeof(struct transfer_request) : 1;
}

// Takes the request from the front of what came; gives how many bytes it was.
static size_t take_request(struct connection *connection, const unsigned char *bytes, size_t count) {
  size_t taken = 0;
  unsigned char *request = (unsigned char *)&connection->request;
  while (taken < count && (!connection->request_length || connection->request_length < request_size(request[0])))
    request[connection->request_length++] = bytes[taken++];
  return taken;
}

static bool has_request(const struct connection *connection) {
  return connection->request_length && connection->request_length == request_size(connection->request.kind);
}

static void ready(struct watch *watch, uint32_t events) {
  struct connection *connection = (struct connection *)watch;
  if (connection->pending) return send_pending(connection);
  if (has_request(connection) && connection->request.kind == DOWNLOAD) {
    if (events & (EPOLLERR | EPOLLHUP)) return end(connection);
    return send_pattern(connection);
  }
  size_t room = connection->request.kind == ECHO ? sizeof connection->pending->bytes : sizeof buffer;
  ssize_t count = recv(watch->fd, buffer, room, 0);
  if (is_waiting(count)) return;
  if (count <= 0) return end(connection);
  size_t taken = 0;
  if (!has_request(connection)) {
    taken = take_request(connection, buffer, (size_t)count);
    if (!has_request(connection)) return;
    connection->started = now();
  }
  const unsigned char *rest = buffer + taken;
  size_t rest_count = (size_t)count - taken;
  switch (connection->request.kind) {
    case DOWNLOAD:
      loop_change(watch, EPOLLOUT);
      break;
    case UPLOAD:
      sink(connection, rest, rest_count);
      break;
    case ECHO:
      send_back(connection, rest, rest_count);
      break;
    case CONNECTION:
      send(watch->fd, buffer, 1, MSG_NOSIGNAL);
      end(connection);
      break;
    default:
      end(connection);
  }
}

static void accept_some(struct watch *listener, uint32_t events) {
  (void)events;
  for (int fd; (fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) err(1, "calloc");
    connection->watch = (struct watch){fd, ready};
    loop_add(&connection->watch, EPOLLIN);
  }
}

int target(const struct options *options) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) err(1, "socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = options->target;
  socklen_t length = sizeof address;
  if (bind(fd, (struct sockaddr *)&address, length)) err(1, "bind");
  if (listen(fd, 4096)) err(1, "listen");
  getsockname(fd, (struct sockaddr *)&address, &length);
  printf("{\"port\": %u}\n", ntohs(address.sin_port));
  fflush(stdout);
  // Ends with its standard input, so that none is left behind.
  struct watch listener = {fd, accept_some};
  loop_add(&listener, EPOLLIN);
  watch_stdin();
  loop_run(UINT64_MAX);
  return 0;
}
