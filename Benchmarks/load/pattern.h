// The bytes of a transfer, told by their place in the stream, so that a relay that loses, doubles or swaps some
// is found out.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATTERN_RUN = 256 * 1024 };

// At least PATTERN_RUN bytes of the stream from `place` on.
const unsigned char *pattern_at(uint64_t place);

// Whether `bytes` may be what stands at `place`: looks at some bytes of each page and at the last ones.
bool pattern_fits(const unsigned char *bytes, size_t count, uint64_t place);
