// The subcommands, and the options that they are run with.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
  struct sockaddr_in target;
  struct sockaddr_in proxy;
  bool has_proxy;  // without one the target is connected to directly
  uint32_t streams;
  double seconds;
  uint64_t bytes;  // 0: as many as the time allows
  double timeout;  // seconds for opening, and beyond `seconds` for the rest
  bool tells_each;
};

// Each gives the exit status, and prints one line of JSON.
int target(const struct options *options);
int download(const struct options *options);
int upload(const struct options *options);
int echo(const struct options *options);
int connections(const struct options *options);
int idle(const struct options *options);

// Ends the program with one line of JSON that says why, and status 1.
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Stops the loop when standard input ends.
void watch_stdin(void);

// Processor time of this program so far.
double cpu_seconds(void);
