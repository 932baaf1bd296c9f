// An end of a link: a network namespace of its own with one TUN device, which a program reads and writes.
#pragma once

#include <stdint.h>

struct end {
  int name_space;  // open as long as the end is there; /proc/PID/fd/N of it is what `nsenter --net=` takes
  int device;      // reads what the namespace sends, one IP packet each; does not block
};

// Makes a namespace, which the calling thread is then in, and in it a device with `address` that reaches
// `peer`. It is gone when both descriptors are closed and nobody is left inside. Exits where that fails.
struct end end_open(const char *address, const char *peer);

// Packets that the device threw away because nobody read them in time: the link was too slow.
// The calling thread is then in the end's namespace.
uint64_t end_device_drops(const struct end *);
