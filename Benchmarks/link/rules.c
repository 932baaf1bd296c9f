#include "rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct unit {
  const char *name;
  double factor;
};

static const struct unit RATES[] = {{"", 1}, {"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {0}};
static const struct unit TIMES[] = {{"", 1e6}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {0}};
static const struct unit SIZES[] = {{"", 1}, {"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {0}};
static const struct unit COUNTS[] = {{"p", 1}, {0}};
static const struct unit SHARES[] = {{"", 0.01}, {"%", 0.01}, {0}};

static bool number(const char *text, const struct unit *units, double most, double *result) {
  char *rest;
  double value = strtod(text, &rest);
  if (rest == text || !isfinite(value) || value < 0) return false;
  for (const struct unit *unit = units; unit->name; unit++) {
    if (strcmp(rest, unit->name) == 0) {
      *result = value * unit->factor;
      return *result <= most;
    }
  }
  return false;
}

static bool set_queue(struct rules *rules, const char *value) {
  double bytes = 0, packets = 0;
  if (!number(value, COUNTS, 1e9, &packets) && !number(value, SIZES, 1e12, &bytes)) return false;
  rules->queue_bytes = (uint64_t)bytes;
  rules->queue_packets = (uint64_t)packets;
  return true;
}

static bool set_one(struct rules *rules, const char *name, const char *value) {
  double result;
  if (strcmp(name, "queue") == 0) return set_queue(rules, value);
  if (strcmp(name, "rate") == 0) return number(value, RATES, 1e12, &rules->bits_per_second);
  if (strcmp(name, "delay") == 0) {
    if (!number(value, TIMES, 60e9, &result)) return false;
    rules->delay = (uint64_t)result;
    return true;
  }
  bool is_both = strcmp(name, "loss") == 0;
  bool is_udp = is_both || strcmp(name, "loss-udp") == 0, is_tcp = is_both || strcmp(name, "loss-tcp") == 0;
  if ((!is_udp && !is_tcp) || !number(value, SHARES, 1, &result)) return false;
  if (is_udp) rules->udp_loss = result;
  if (is_tcp) rules->tcp_loss = result;
  return true;
}

bool rules_set(struct rules *up, struct rules *down, const char *name, const char *value) {
  char first[64];
  const char *slash = strchr(value, '/');
  size_t length = slash ? (size_t)(slash - value) : strlen(value);
  if (length >= sizeof first) return false;
  memcpy(first, value, length);
  first[length] = 0;
  struct rules new_up = *up, new_down = *down;
  if (!set_one(&new_up, name, first) || !set_one(&new_down, name, slash ? slash + 1 : first)) return false;
  *up = new_up;
  *down = new_down;
  return true;
}
