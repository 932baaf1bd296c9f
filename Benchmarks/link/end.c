#define _GNU_SOURCE
#include "end.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "direction.h"

static const char *const DEVICE = "link0";

static struct ifreq request(const char *device) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

static void set(int control, unsigned long operation, struct ifreq *request, const char *what) {
  if (ioctl(control, operation, request)) err(1, "%s", what);
}

static void set_address(int control, unsigned long operation, const char *address) {
  struct ifreq ask = request(DEVICE);
  struct sockaddr_in in = {.sin_family = AF_INET};
  if (inet_pton(AF_INET, address, &in.sin_addr) != 1) errx(2, "%s is no IPv4 address", address);
  memcpy(&ask.ifr_addr, &in, sizeof in);
  set(control, operation, &ask, address);
}

static void bring_up(int control, const char *device) {
  struct ifreq ask = request(device);
  set(control, SIOCGIFFLAGS, &ask, device);
  ask.ifr_flags |= IFF_UP;
  set(control, SIOCSIFFLAGS, &ask, device);
}

struct end end_open(const char *address, const char *peer) {
  struct end end;
  if (unshare(CLONE_NEWNET)) err(1, "making a network namespace (root, or CAP_SYS_ADMIN, is needed)");
  end.name_space = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (end.name_space < 0) err(1, "/proc/thread-self/ns/net");
  end.device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (end.device < 0) err(1, "/dev/net/tun");
  struct ifreq ask = request(DEVICE);
  ask.ifr_flags = IFF_TUN | IFF_NO_PI;
  set(end.device, TUNSETIFF, &ask, "TUNSETIFF");

  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) err(1, "socket");
  // Bursts wait here until they are read; the queue that limits them is the link's. Root of a user namespace may
  // not change it: there it stays short, and `overrun` counts what did not fit.
  ask = request(DEVICE);
  ask.ifr_qlen = 10000;
  if (ioctl(control, SIOCSIFTXQLEN, &ask) && errno != EPERM) err(1, "txqueuelen");
  ask = request(DEVICE);
  ask.ifr_mtu = MAX_PACKET;
  set(control, SIOCSIFMTU, &ask, "mtu");
  set_address(control, SIOCSIFADDR, address);
  set_address(control, SIOCSIFDSTADDR, peer);
  bring_up(control, DEVICE);
  bring_up(control, "lo");
  close(control);
  return end;
}

uint64_t end_device_drops(const struct end *end) {
  if (setns(end->name_space, CLONE_NEWNET)) err(1, "setns");
  FILE *devices = fopen("/proc/thread-self/net/dev", "r");
  if (!devices) err(1, "/proc/thread-self/net/dev");
  char line[512];
  uint64_t drops = 0;
  while (fgets(line, sizeof line, devices)) {
    // Eight numbers on what was received come first; what was sent is: bytes, packets, errors, drops.
    sscanf(line, " link0: %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &drops);
  }
  fclose(devices);
  return drops;
}
