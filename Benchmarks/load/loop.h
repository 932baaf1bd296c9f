// Waits for descriptors with epoll and calls who watches them. One loop, one thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
  int fd;
  void (*ready)(struct watch *watch, uint32_t events);
};

static const uint64_t SECOND = 1000000000;

// Monotonic time in nanoseconds.
uint64_t now(void);

void loop_add(struct watch *watch, uint32_t events);
void loop_change(struct watch *watch, uint32_t events);
// Closes the descriptor; `ready` is not called again, and the watch may be freed.
void loop_close(struct watch *watch);

// Runs until `loop_stop`, or until the time `deadline`; gives whether it was stopped.
bool loop_run(uint64_t deadline);
void loop_stop(void);
