#define _GNU_SOURCE
#include "csplice.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_EVENTS = 256 };

static int result(int value) { return value < 0 ? -errno : value; }

long csplice_move(int from, int to, size_t count) {
  ssize_t moved;
  do {
    moved = splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  return moved < 0 ? -errno : moved;
}

int csplice_pipe(int ends[2], int capacity) {
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  // Above a limit per user the kernel refuses; then the usual 64 KiB have to do.
  int size = fcntl(ends[1], F_SETPIPE_SZ, capacity);
  if (size < 0) size = fcntl(ends[1], F_GETPIPE_SZ);
  return size < 0 ? 4096 : size;
}

long csplice_least_round_trip(int socket) {
  struct tcp_info info;
  socklen_t length = sizeof info;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -errno;
  // An older kernel tells less.
  if (length < offsetof(struct tcp_info, tcpi_min_rtt) + sizeof info.tcpi_min_rtt) return -ENOSYS;
  return info.tcpi_min_rtt;
}

int csplice_limit_sending(int socket, int bytes) {
  // The kernel doubles what it is given.
  int half = bytes / 2;
  return result(setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &half, sizeof half));
}

int csplice_poller(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int csplice_bell(void) { return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

static int watch(int poller, int descriptor, uint32_t changes) {
  struct epoll_event event = {.events = changes, .data.fd = descriptor};
  return result(epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event));
}

int csplice_watch_bell(int poller, int bell) { return watch(poller, bell, EPOLLIN); }

int csplice_watch(int poller, int socket) {
  return watch(poller, socket, EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET);
}

void csplice_unwatch(int poller, int socket) { epoll_ctl(poller, EPOLL_CTL_DEL, socket, NULL); }

int csplice_wait(int poller, struct csplice_event *events, int count, int timeout) {
  struct epoll_event found[MOST_EVENTS];
  int ready = epoll_wait(poller, found, count < MOST_EVENTS ? count : MOST_EVENTS, timeout);
  for (int i = 0; i < ready; i++) {
    uint32_t changes = found[i].events;
    events[i] = (struct csplice_event){
        .descriptor = found[i].data.fd,
        .readable = (changes & (EPOLLIN | EPOLLRDHUP)) != 0,
        .writable = (changes & EPOLLOUT) != 0,
        .broken = (changes & (EPOLLERR | EPOLLHUP)) != 0,
    };
  }
  return ready < 0 ? 0 : ready;
}

void csplice_ring(int bell) {
  uint64_t one = 1;
  // It takes all eight bytes, or has been rung so often that it is heard anyway.
  ssize_t written = write(bell, &one, sizeof one);
  (void)written;
}

void csplice_unring(int bell) {
  uint64_t count;
  ssize_t taken = read(bell, &count, sizeof count);
  (void)taken;
}
