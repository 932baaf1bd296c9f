// The words in which a link is told what to do, on its command line and on its standard input.
#pragma once

#include <stdbool.h>

#include "direction.h"

// Sets one rule of both directions: `value` holds for both, or says UP/DOWN.
//
//     rate 100mbit    delay 20ms    queue 500kB or 300p    loss 1    loss-udp 0/10    loss-tcp 0
//
// Numbers without a unit are bits per second, milliseconds, bytes and percent; 0 is no limit.
// Gives false, and changes nothing, where it understands name or value not.
bool rules_set(struct rules *up, struct rules *down, const char *name, const char *value);
