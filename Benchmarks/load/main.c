// A load tool for relays: README.md says what each subcommand measures.
#include <arpa/inet.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "commands.h"
#include "loop.h"

static const char USAGE[] =
    "usage: load target      [--listen HOST:PORT]\n"
    "       load download    --target HOST:PORT [--proxy HOST:PORT] [--streams N] [--seconds S | --bytes N]\n"
    "       load upload      the same\n"
    "       load echo        the same, without --bytes: 64 bytes to and fro on each stream; --each 1 prints each time\n"
    "       load connections the same: streams are opened and closed, N at a time\n"
    "       load idle        the same: N streams are held open until standard input ends\n"
    "HOST is an IPv4 address. The proxy speaks SOCKS5. --timeout S bounds what has no time of its own.\n";

static const struct {
  const char *name;
  int (*run)(const struct options *);
} COMMANDS[] = {
    {"target", target}, {"download", download},       {"upload", upload},
    {"echo", echo},     {"connections", connections}, {"idle", idle},
};

_Noreturn static void usage(void) {
  fputs(USAGE, stderr);
  exit(2);
}

void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("{\"error\": \"");
  vprintf(format, arguments);
  printf("\"}\n");
  va_end(arguments);
  exit(1);
}

double cpu_seconds(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void stdin_ready(struct watch *watch, uint32_t events) {
  (void)events;
  char bytes[256];
  if (read(watch->fd, bytes, sizeof bytes) <= 0) loop_stop();
}

void watch_stdin(void) {
  static struct watch input = {STDIN_FILENO, stdin_ready};
  loop_add(&input, EPOLLIN);
}

static struct sockaddr_in address_from(const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  char host[INET_ADDRSTRLEN];
  const char *colon = strrchr(text, ':');
  if (!colon || (size_t)(colon - text) >= sizeof host) usage();
  memcpy(host, text, (size_t)(colon - text));
  host[colon - text] = 0;
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) usage();
  address.sin_port = htons((uint16_t)atoi(colon + 1));
  return address;
}

static void raise_descriptor_limit(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **arguments) {
  static const struct option NAMES[] = {
      {"listen", 1, 0, 't'}, {"target", 1, 0, 't'}, {"proxy", 1, 0, 'p'},   {"streams", 1, 0, 'n'},
      {"seconds", 1, 0, 's'}, {"bytes", 1, 0, 'b'},  {"timeout", 1, 0, 'o'}, {"each", 1, 0, 'e'},
      {0, 0, 0, 0},
  };
  struct options options = {
      .target = address_from("127.0.0.1:0"), .streams = 1, .seconds = 2, .timeout = 10};
  for (int name; (name = getopt_long(count, arguments, "", NAMES, NULL)) >= 0;) switch (name) {
      case 't': options.target = address_from(optarg); break;
      case 'p': options.proxy = address_from(optarg), options.has_proxy = true; break;
      case 'n': options.streams = (uint32_t)strtoul(optarg, NULL, 10); break;
      case 's': options.seconds = strtod(optarg, NULL); break;
      case 'b': options.bytes = strtoull(optarg, NULL, 10); break;
      case 'o': options.timeout = strtod(optarg, NULL); break;
      case 'e': options.tells_each = atoi(optarg) != 0; break;
      default: usage();
    }
  if (optind != count - 1 || !options.streams) usage();
  raise_descriptor_limit();
  for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
    if (!strcmp(COMMANDS[i].name, arguments[optind])) return COMMANDS[i].run(&options);
  usage();
}
