// What a client says first to the target.
//
//     'D' amount  milliseconds    the target sends `amount` bytes and closes; with 0 it sends until the client closes
//     'U' amount  milliseconds    the target takes `amount` bytes, or those of a time, and answers with a `receipt`
//     'E'                         the target sends all that follows back
//     'C'                         the target sends one byte and closes
//
// Both ends run on one machine: numbers go as they are in memory.
#pragma once

#include <stdint.h>

enum kind { DOWNLOAD = 'D', UPLOAD = 'U', ECHO = 'E', CONNECTION = 'C' };

struct __attribute__((packed)) transfer_request {
  uint8_t kind;
  uint64_t amount;
  uint32_t milliseconds;
};

// `amount` is UINT64_MAX if the bytes were wrong.
struct __attribute__((packed)) receipt {
  uint64_t amount;
  uint64_t nanoseconds;
};
