#include "times.h"

#include <err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t *times;
static size_t count, room;
static bool sorted;

void times_add(uint64_t nanoseconds) {
  if (count == room) {
    room = room ? 2 * room : 1 << 16;
    times = realloc(times, room * sizeof *times);
    if (!times) err(1, "realloc");
  }
  times[count++] = nanoseconds;
  sorted = false;
}

uint64_t times_count(void) { return count; }

static int order(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

double times_at(double part) {
  if (!count) return 0;
  if (!sorted) qsort(times, count, sizeof *times, order), sorted = true;
  size_t index = (size_t)((double)count * part);
  return (double)times[index < count ? index : count - 1] / 1e6;
}

void times_print(void) {
  putchar('[');
  for (size_t i = 0; i < count; i++) printf("%s%.3f", i ? ", " : "", (double)times[i] / 1e6);
  putchar(']');
}
