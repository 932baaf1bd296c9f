#include "cpath.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

// A kernel fills in as much of the structure as it knows, and says how much that is.
#define KNOWS(length, field) ((length) >= offsetof(struct tcp_info, field) + sizeof(((struct tcp_info *)0)->field))

int cpath_tcp_read(int socket, struct cpath_tcp *counts) {
  struct tcp_info info = {0};
  socklen_t length = sizeof info;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -errno;
  if (!KNOWS(length, tcpi_data_segs_out)) return -ENOSYS;
  *counts = (struct cpath_tcp){
      .sent = info.tcpi_data_segs_out,
      .repeated = info.tcpi_total_retrans,
      .doubled = info.tcpi_dsack_dups,
      .round_trip = info.tcpi_rtt,
      .variation = info.tcpi_rttvar,
      .tells_doubled = KNOWS(length, tcpi_dsack_dups),
  };
  return 0;
}
