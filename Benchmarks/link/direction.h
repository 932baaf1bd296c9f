// One direction of a link, without devices and without a clock: packets and times go in, packets and the next
// time something is due come out. Times are in nanoseconds and never go back.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_PACKET = 1500 };

// What a direction does to packets. It may be changed while packets are on their way; they keep their times.
struct rules {
  double bits_per_second;  // of IP packets; 0: no limit
  uint64_t delay;
  uint64_t queue_bytes;    // what may wait for its turn; 0: no limit
  uint64_t queue_packets;  // the same in packets; 0: no limit
  double udp_loss, tcp_loss;  // 0 to 1
};

struct packet {
  struct packet *next;
  uint64_t departs;  // its last bit leaves the queue
  uint64_t due;      // it arrives
  size_t length;
  bool is_lost;      // on the way: it takes its time on the link, and does not arrive
  uint8_t bytes[MAX_PACKET];
};

struct counts {
  uint64_t taken, delivered, delivered_bytes;
  uint64_t lost;     // by chance
  uint64_t dropped;  // the queue was full
};

// A first-in first-out line. As the delay is the same for all, who departs first arrives first.
struct direction {
  struct rules rules;
  struct counts counts;
  uint64_t random;                  // state of the generator; the seed at the start
  struct packet *first, *last;      // all on their way; owned
  struct packet *waiting;           // the first of them that has not departed
  uint64_t waiting_packets, waiting_bytes;
  uint64_t busy_until;              // the link sends earlier packets until then
};

// Takes a packet that came at `now`. Owns it from here on, or gives it back where it was dropped.
struct packet *direction_take(struct direction *, struct packet *, uint64_t now);

// The next packet whose time has come, which the caller then owns; NULL where there is none.
// One that was lost comes out too, and must not be delivered.
struct packet *direction_next(struct direction *, uint64_t now);

// When `direction_next` has something; UINT64_MAX where nothing is on its way.
uint64_t direction_due(const struct direction *);
