#include "loop.h"

#include <err.h>
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256 };

static int epoll = -1;
static bool stopped;
// What one epoll_wait brought and is not handled yet; `loop_close` strikes its watch out.
static struct epoll_event batch[BATCH];
static int batch_count;

uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void control(int operation, struct watch *watch, uint32_t events) {
  if (epoll < 0 && (epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) err(1, "epoll_create1");
  struct epoll_event event = {.events = events, .data.ptr = watch};
  if (epoll_ctl(epoll, operation, watch->fd, &event)) err(1, "epoll_ctl");
}

void loop_add(struct watch *watch, uint32_t events) { control(EPOLL_CTL_ADD, watch, events); }

void loop_change(struct watch *watch, uint32_t events) { control(EPOLL_CTL_MOD, watch, events); }

void loop_close(struct watch *watch) {
  close(watch->fd);
  watch->fd = -1;
  for (int i = 0; i < batch_count; i++)
    if (batch[i].data.ptr == watch) batch[i].data.ptr = NULL;
}

void loop_stop(void) { stopped = true; }

bool loop_run(uint64_t deadline) {
  stopped = false;
  for (uint64_t time; !stopped && (time = now()) < deadline;) {
    uint64_t milliseconds = (deadline - time) / 1000000 + 1;
    batch_count = epoll_wait(epoll, batch, BATCH, milliseconds < 1000 ? (int)milliseconds : 1000);
    if (batch_count < 0 && errno != EINTR) err(1, "epoll_wait");
    for (int i = 0; i < batch_count && !stopped; i++) {
      struct watch *watch = batch[i].data.ptr;
      if (watch) watch->ready(watch, batch[i].events);
    }
    batch_count = 0;
  }
  return stopped;
}
