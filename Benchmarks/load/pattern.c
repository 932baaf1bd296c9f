#include "pattern.h"

#include <string.h>

// A prime, so that nothing that is a whole number of buffers or packets long can go missing unseen.
enum { PERIOD = 1000003, STEP = 4096, LOOK = 8 };

static unsigned char pattern[PERIOD + PATTERN_RUN];

static void fill(void) {
  uint64_t state = 88172645463325252;
  for (size_t i = 0; i < PERIOD; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    pattern[i] = (unsigned char)state;
  }
  memcpy(pattern + PERIOD, pattern, PATTERN_RUN);
}

const unsigned char *pattern_at(uint64_t place) {
  static bool filled;
  if (!filled) fill(), filled = true;
  return pattern + place % PERIOD;
}

bool pattern_fits(const unsigned char *bytes, size_t count, uint64_t place) {
  const unsigned char *expected = pattern_at(place);
  if (count < LOOK) return memcmp(bytes, expected, count) == 0;
  for (size_t i = 0; i + LOOK <= count; i += STEP)
    if (memcmp(bytes + i, expected + i, LOOK)) return false;
  return memcmp(bytes + count - LOOK, expected + count - LOOK, LOOK) == 0;
}
