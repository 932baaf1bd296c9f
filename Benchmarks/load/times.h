// Many durations, and which of them are at a share of the order.
#pragma once

#include <stdint.h>

void times_add(uint64_t nanoseconds);
uint64_t times_count(void);
// In milliseconds; `part` 0.5 is the median.
double times_at(double part);
// As an array of JSON, in milliseconds.
void times_print(void);
