// An emulated link between two network namespaces: rate, delay, queue and loss, for kernels without netem.
//
//     program A ─► link0 in "left" ──up──►    this process    ──down──► link0 in "left" ─► program A
//     program B ◄─ link0 in "right" ◄─────  (rate, delay, …)  ◄──────── link0 in "right" ◄─ program B
//
// Both namespaces are made here, have no way to any other network, and are gone when this process and those in
// them have ended. README.md says how to use it.

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "direction.h"
#include "end.h"
#include "rules.h"

static const char *const LEFT = "10.99.0.1", *const RIGHT = "10.99.0.2";
static const uint64_t SECOND = 1000000000;
// Packets that are due within this time go out together: it bounds the wake-ups, and the jitter.
static const uint64_t GRAIN = 50000;
// Packets read from one device before the other has its turn.
static const int BATCH = 64;

// How late packets were handed over, in steps of 10 µs.
enum { LATE_STEP = 10000, LATE_STEPS = 2000 };

struct way {
  const char *name;
  struct direction direction;
  int from, to;
  uint64_t late[LATE_STEPS];
  uint64_t unwanted;  // the receiving device did not take them
};

static struct packet *spare;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static struct packet *new_packet(void) {
  struct packet *packet = spare;
  if (packet) {
    spare = packet->next;
    return packet;
  }
  packet = malloc(sizeof *packet);
  if (!packet) err(1, "malloc");
  return packet;
}

static void release(struct packet *packet) {
  if (!packet) return;
  packet->next = spare;
  spare = packet;
}

// Gives whether there may be more to read.
static bool take(struct way *way) {
  for (int i = 0; i < BATCH; i++) {
    struct packet *packet = new_packet();
    ssize_t length = read(way->from, packet->bytes, sizeof packet->bytes);
    bool is_ipv4 = length >= 20 && packet->bytes[0] >> 4 == 4;
    if (!is_ipv4) {
      release(packet);
      if (length >= 0) continue;
      if (errno == EAGAIN || errno == EINTR) return false;
      err(1, "reading %s packets", way->name);
    }
    packet->length = (size_t)length;
    release(direction_take(&way->direction, packet, now()));
  }
  return true;
}

static void deliver(struct way *way) {
  struct packet *packet;
  uint64_t time = now();
  while ((packet = direction_next(&way->direction, time))) {
    if (!packet->is_lost) {
      uint64_t step = (time - packet->due) / LATE_STEP;
      way->late[step < LATE_STEPS ? step : LATE_STEPS - 1] += 1;
      if (write(way->to, packet->bytes, packet->length) < 0) way->unwanted += 1;
    }
    release(packet);
    time = now();
  }
}

// The lateness, in milliseconds, that the given share of packets does not exceed.
static double lateness(const struct way *way, double share) {
  uint64_t all = 0, passed = 0;
  for (int i = 0; i < LATE_STEPS; i++) all += way->late[i];
  for (int i = 0; i < LATE_STEPS; i++) {
    passed += way->late[i];
    if (all && (double)passed >= share * (double)all) return (i + 1) * (LATE_STEP / 1e6);
  }
  return 0;
}

static void report(const struct way *way) {
  const struct counts *counts = &way->direction.counts;
  printf("%s taken %" PRIu64 " delivered %" PRIu64 " bytes %" PRIu64 " lost %" PRIu64 " dropped %" PRIu64
         " late_p50_ms %.2f late_p99_ms %.2f late_max_ms %.2f\n",
         way->name, counts->taken, counts->delivered, counts->delivered_bytes, counts->lost, counts->dropped,
         lateness(way, 0.5), lateness(way, 0.99), lateness(way, 1));
}

static void report_self(const struct way *up, const struct way *down, uint64_t drops, uint64_t started) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  double seconds = (double)(now() - started) / (double)SECOND;
  printf("self seconds %.3f cpu_seconds %.3f overrun %" PRIu64 " unwanted %" PRIu64 "\n", seconds, cpu, drops,
         up->unwanted + down->unwanted);
  fflush(stdout);
}

static uint64_t overrun(const struct end *left, const struct end *right) {
  return end_device_drops(left) + end_device_drops(right);
}

static void obey(char *line, struct way *up, struct way *down) {
  char name[32], value[64];
  if (sscanf(line, "%31s %63s", name, value) == 2 &&
      rules_set(&up->direction.rules, &down->direction.rules, name, value)) {
    printf("ok\n");
  } else {
    printf("not understood: %s\n", line);
  }
  fflush(stdout);
}

// Reads commands, one a line. Gives false at the end of the input.
static bool listen_to_input(struct way *up, struct way *down, const struct end *ends, uint64_t started) {
  static char text[1024];
  static size_t used;
  ssize_t count = read(STDIN_FILENO, text + used, sizeof text - 1 - used);
  if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
  used += (size_t)count;
  text[used] = 0;
  char *line = text, *end;
  while ((end = strchr(line, '\n'))) {
    *end = 0;
    if (strcmp(line, "stats") == 0) {
      report(up);
      report(down);
      report_self(up, down, overrun(&ends[0], &ends[1]), started);
    } else if (*line) {
      obey(line, up, down);
    }
    line = end + 1;
  }
  used -= (size_t)(line - text);
  memmove(text, line, used);
  return used < sizeof text - 1;
}

static void run(struct way *up, struct way *down, const struct end *ends, int signals, uint64_t seconds) {
  uint64_t started = now(), ends_at = started + seconds * SECOND;
  struct pollfd polled[] = {
      {.fd = up->from, .events = POLLIN},
      {.fd = down->from, .events = POLLIN},
      {.fd = STDIN_FILENO, .events = POLLIN},
      {.fd = signals, .events = POLLIN},
  };
  for (;;) {
    bool is_more = take(up);
    is_more = take(down) || is_more;
    deliver(up);
    deliver(down);
    uint64_t time = now(), due = direction_due(&up->direction);
    if (direction_due(&down->direction) < due) due = direction_due(&down->direction);
    if (time >= ends_at) return;
    if (due > ends_at) due = ends_at;
    uint64_t wait = is_more ? 0 : due > time + GRAIN ? due - time : GRAIN;
    struct timespec timeout = {(time_t)(wait / SECOND), (long)(wait % SECOND)};
    if (ppoll(polled, 4, &timeout, NULL) < 0 && errno != EINTR) err(1, "ppoll");
    if (polled[3].revents) return;
    if (polled[2].revents && !listen_to_input(up, down, ends, started)) return;
  }
}

// To be late is to add jitter: no slack for timers, and before others where the system allows it.
static void be_punctual(void) {
  prctl(PR_SET_TIMERSLACK, 1);
  struct sched_param first = {.sched_priority = 1};
  sched_setscheduler(0, SCHED_RR, &first);
}

static int catch_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) err(1, "signalfd");
  return signals;
}

static _Noreturn void usage(int status) {
  fputs(
      "usage: link [--rate R] [--delay D] [--queue Q] [--loss P] [--loss-udp P] [--loss-tcp P]\n"
      "            [--seed N] [--seconds N]\n"
      "Each of the first six holds for both directions, or says UP/DOWN: --rate 20mbit/100mbit.\n"
      "The link lasts until its standard input ends, a signal comes, or --seconds (3600) are over.\n",
      status ? stderr : stdout);
  exit(status);
}

int main(int argc, char **argv) {
  static struct way up = {.name = "up"}, down = {.name = "down"};
  static const struct option options[] = {
      {"rate", 1, 0, 0},     {"delay", 1, 0, 0},    {"queue", 1, 0, 0},     {"loss", 1, 0, 0},  {"loss-udp", 1, 0, 0},
      {"loss-tcp", 1, 0, 0}, {"seed", 1, 0, 's'}, {"seconds", 1, 0, 't'}, {"help", 0, 0, 'h'}, {0},
  };
  uint64_t seconds = 3600, seed = 1;
  int option, index;
  while ((option = getopt_long(argc, argv, "h", options, &index)) != -1) {
    if (option == 'h') usage(0);
    if (option == '?') usage(2);
    if (option == 's') {
      seed = strtoull(optarg, NULL, 10);
    } else if (option == 't') {
      seconds = strtoull(optarg, NULL, 10);
    } else if (!rules_set(&up.direction.rules, &down.direction.rules, options[index].name, optarg)) {
      errx(2, "--%s: %s is not understood", options[index].name, optarg);
    }
  }
  if (optind < argc || seconds == 0 || seconds > 86400) usage(2);
  up.direction.random = seed;
  down.direction.random = ~seed;

  int signals = catch_signals();
  struct end ends[] = {end_open(LEFT, RIGHT), end_open(RIGHT, LEFT)};
  up.from = down.to = ends[0].device;
  down.from = up.to = ends[1].device;
  be_punctual();
  printf("left %s /proc/%d/fd/%d\n", LEFT, getpid(), ends[0].name_space);
  printf("right %s /proc/%d/fd/%d\n", RIGHT, getpid(), ends[1].name_space);
  fflush(stdout);

  run(&up, &down, ends, signals, seconds);
}
