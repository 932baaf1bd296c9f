#include "direction.h"

#include <netinet/in.h>

// splitmix64: small, and good enough for dice.
static double dice(struct direction *direction) {
  uint64_t z = direction->random += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (double)((z ^ (z >> 31)) >> 11) / (double)(1ull << 53);
}

static double loss(const struct rules *rules, const struct packet *packet) {
  switch (packet->bytes[9]) {  // the protocol, in the header of IPv4
    case IPPROTO_UDP: return rules->udp_loss;
    case IPPROTO_TCP: return rules->tcp_loss;
    default: return 0;
  }
}

static void let_depart(struct direction *direction, uint64_t now) {
  while (direction->waiting && direction->waiting->departs <= now) {
    direction->waiting_packets -= 1;
    direction->waiting_bytes -= direction->waiting->length;
    direction->waiting = direction->waiting->next;
  }
}

static bool is_full(const struct direction *direction, size_t length) {
  const struct rules *rules = &direction->rules;
  return (rules->queue_bytes && direction->waiting_bytes + length > rules->queue_bytes) ||
         (rules->queue_packets && direction->waiting_packets >= rules->queue_packets);
}

struct packet *direction_take(struct direction *direction, struct packet *packet, uint64_t now) {
  const struct rules *rules = &direction->rules;
  direction->counts.taken += 1;
  let_depart(direction, now);
  if (is_full(direction, packet->length)) {
    direction->counts.dropped += 1;
    return packet;
  }
  double seconds = rules->bits_per_second > 0 ? (double)packet->length * 8 / rules->bits_per_second : 0;
  uint64_t starts = direction->busy_until > now ? direction->busy_until : now;
  direction->busy_until = starts + (uint64_t)(seconds * 1e9);
  packet->next = NULL;
  packet->departs = direction->busy_until;
  packet->due = packet->departs + rules->delay;
  // A delay that was made shorter overtakes nobody.
  if (direction->last && packet->due < direction->last->due) packet->due = direction->last->due;
  packet->is_lost = dice(direction) < loss(rules, packet);
  if (direction->last) direction->last->next = packet; else direction->first = packet;
  direction->last = packet;
  if (!direction->waiting) direction->waiting = packet;
  direction->waiting_packets += 1;
  direction->waiting_bytes += packet->length;
  return NULL;
}

struct packet *direction_next(struct direction *direction, uint64_t now) {
  let_depart(direction, now);
  struct packet *packet = direction->first;
  if (!packet || packet->due > now) return NULL;
  direction->first = packet->next;
  if (!direction->first) direction->last = NULL;
  if (packet->is_lost) {
    direction->counts.lost += 1;
  } else {
    direction->counts.delivered += 1;
    direction->counts.delivered_bytes += packet->length;
  }
  return packet;
}

uint64_t direction_due(const struct direction *direction) {
  return direction->first ? direction->first->due : UINT64_MAX;
}
