#pragma once
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>

// libmicrohttpd sets its options by variadic calls, which Swift cannot make; so they are made here.

// What the library calls. `owner` is borrowed: it must outlive the daemon, as must this struct, which the
// logger reads.
struct cmicrohttpd_callbacks {
  void *owner;
  MHD_AccessHandlerCallback access;
  void *(*request_line)(void *owner, const char *target, struct MHD_Connection *connection);
  MHD_RequestCompletedCallback completed;
  MHD_NotifyConnectionCallback connection;
  void (*log)(void *owner, const char *line);
};

static inline void cmicrohttpd_log(void *owner, const char *format, va_list arguments) {
  const struct cmicrohttpd_callbacks *callbacks = (const struct cmicrohttpd_callbacks *)owner;
  char line[512];
  vsnprintf(line, sizeof line, format, arguments);
  callbacks->log(callbacks->owner, line);
}

// Percent escapes stay as they are: only who splits the path knows which `%2F` is no separator.
static inline size_t cmicrohttpd_keep_escapes(void *owner, struct MHD_Connection *connection, char *text) {
  size_t length = 0;
  (void)owner;
  (void)connection;
  while (text[length] != '\0') length++;
  return length;
}

// A daemon with a thread of its own that gets its connections from MHD_add_connection. NULL where it could
// not start; the caller owns it and ends it with MHD_stop_daemon.
static inline struct MHD_Daemon *cmicrohttpd_start(
    const struct cmicrohttpd_callbacks *callbacks, unsigned int connections, size_t memory,
    unsigned int idle_seconds) {
  return MHD_start_daemon(
      MHD_USE_ERROR_LOG | MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC
          | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET,
      0, NULL, NULL, callbacks->access, callbacks->owner,
      MHD_OPTION_EXTERNAL_LOGGER, &cmicrohttpd_log, (void *)callbacks,
      MHD_OPTION_URI_LOG_CALLBACK, callbacks->request_line, callbacks->owner,
      MHD_OPTION_NOTIFY_COMPLETED, callbacks->completed, callbacks->owner,
      MHD_OPTION_NOTIFY_CONNECTION, callbacks->connection, callbacks->owner,
      MHD_OPTION_UNESCAPE_CALLBACK, &cmicrohttpd_keep_escapes, NULL,
      MHD_OPTION_STRICT_FOR_CLIENT, (int)1,
      MHD_OPTION_CONNECTION_LIMIT, connections,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
      MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds,
      MHD_OPTION_END);
}

// The socket of a connection; the library keeps owning it.
static inline int cmicrohttpd_socket(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == NULL ? -1 : info->connect_fd;
}

// What the connection callback stored for a connection.
static inline void *cmicrohttpd_context(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return info == NULL ? NULL : info->socket_context;
}

// A body of unknown length that `reader` produces; the caller owns one reference.
static inline struct MHD_Response *cmicrohttpd_stream(MHD_ContentReaderCallback reader, void *owner) {
  return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, reader, owner, NULL);
}

// A body that the library copies; the caller owns one reference.
static inline struct MHD_Response *cmicrohttpd_bytes(const void *bytes, size_t count) {
  return MHD_create_response_from_buffer(count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

// Calls `each` for every line of the request's head.
static inline void cmicrohttpd_headers(
    struct MHD_Connection *connection, MHD_KeyValueIteratorN each, void *owner) {
  MHD_get_connection_values_n(connection, MHD_HEADER_KIND, each, owner);
}

// What Linux has beyond POSIX, and its headers show only with _GNU_SOURCE.
#define CMICROHTTPD_POLLRDHUP 0x2000
extern int accept4(int socket, struct sockaddr *address, socklen_t *length, int flags);

static inline int cmicrohttpd_accept(int socket, struct sockaddr *address, socklen_t *length) {
  return accept4(socket, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static inline int cmicrohttpd_open(int family) {
  return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}
