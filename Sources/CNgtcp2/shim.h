// What Swift cannot call by itself in ngtcp2: functions that are macros over a struct version, a variadic
// log function, and constants that are casts. What differs between versions of the library differs here.
#pragma once
// First, so that GnuTLS's types are those of that module in this one too.
#include "../CGnuTLS/shim.h"
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// What ngtcp2 and GnuTLS keep a pointer to for as long as a connection lives. Its owner allocates it, so
// that its address does not change, and frees it after both.
typedef struct shim_anchor {
  // gnutls_session_set_ptr gets the address of this.
  ngtcp2_crypto_conn_ref ref;
  ngtcp2_conn *conn;
  // Not owned.
  void *owner;
  // NULL where nothing is logged.
  void (*log)(void *owner, const char *line);
} shim_anchor;

static ngtcp2_conn *shim_anchor_conn(ngtcp2_crypto_conn_ref *ref) {
  return ((shim_anchor *)ref->user_data)->conn;
}

static inline void shim_anchor_init(shim_anchor *anchor, void *owner,
                                    void (*log)(void *owner, const char *line)) {
  anchor->ref.get_conn = shim_anchor_conn;
  anchor->ref.user_data = anchor;
  anchor->conn = NULL;
  anchor->owner = owner;
  anchor->log = log;
}

static void shim_log_printf(void *user_data, const char *format, ...) {
  shim_anchor *anchor = (shim_anchor *)user_data;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (anchor->log) anchor->log(anchor->owner, line);
}

// 0 sends none. ngtcp2 0.x reads 0 so, 1.x UINT64_MAX, which makes 0.x send a PING with every packet.
static inline void shim_conn_keep_alive(ngtcp2_conn *conn, uint64_t after) {
#if NGTCP2_VERSION_NUM >= 0x010000
  ngtcp2_conn_set_keep_alive_timeout(conn, after == 0 ? UINT64_MAX : after);
#else
  ngtcp2_conn_set_keep_alive_timeout(conn, after);
#endif
}

static inline void shim_settings_default(ngtcp2_settings *settings) { ngtcp2_settings_default(settings); }

static inline void shim_settings_log(ngtcp2_settings *settings) { settings->log_printf = shim_log_printf; }

static inline void shim_settings_token(ngtcp2_settings *settings, const uint8_t *token, size_t length) {
  settings->token.base = (uint8_t *)token;
  settings->token.len = length;
}

static inline void shim_transport_params_default(ngtcp2_transport_params *params) {
  ngtcp2_transport_params_default(params);
}

static inline void shim_params_reset_token(ngtcp2_transport_params *params, const uint8_t *token) {
  params->stateless_reset_token_present = 1;
  memcpy(params->stateless_reset_token, token, NGTCP2_STATELESS_RESET_TOKENLEN);
}

static inline int shim_conn_client_new(shim_anchor *anchor, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
                                       const ngtcp2_path *path, uint32_t version,
                                       const ngtcp2_callbacks *callbacks, const ngtcp2_settings *settings,
                                       const ngtcp2_transport_params *params) {
  return ngtcp2_conn_client_new(&anchor->conn, dcid, scid, path, version, callbacks, settings, params, NULL,
                                anchor);
}

static inline int shim_conn_server_new(shim_anchor *anchor, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
                                       const ngtcp2_path *path, uint32_t version,
                                       const ngtcp2_callbacks *callbacks, const ngtcp2_settings *settings,
                                       const ngtcp2_transport_params *params) {
  return ngtcp2_conn_server_new(&anchor->conn, dcid, scid, path, version, callbacks, settings, params, NULL,
                                anchor);
}

static inline int shim_conn_read_pkt(ngtcp2_conn *conn, const ngtcp2_path *path, uint8_t ecn,
                                     const uint8_t *packet, size_t length, ngtcp2_tstamp now) {
  ngtcp2_pkt_info info;
  memset(&info, 0, sizeof info);
  info.ecn = ecn;
  return ngtcp2_conn_read_pkt(conn, path, &info, packet, length, now);
}

static inline ngtcp2_ssize shim_conn_writev_stream(ngtcp2_conn *conn, ngtcp2_path *path, ngtcp2_pkt_info *info,
                                                   uint8_t *target, size_t size, ngtcp2_ssize *accepted,
                                                   uint32_t flags, int64_t stream, const ngtcp2_vec *data,
                                                   size_t count, ngtcp2_tstamp now) {
  return ngtcp2_conn_writev_stream(conn, path, info, target, size, accepted, flags, stream, data, count, now);
}

// Whether the peer asked us to stop sending on a stream, for which this version has no callback. It shows in
// the error of a write; this write is longer than any stream, so that it fails in every case and does nothing.
static inline int shim_conn_is_stream_stopped(ngtcp2_conn *conn, int64_t stream) {
  ngtcp2_vec endless = {NULL, SIZE_MAX};
  ngtcp2_ssize result = ngtcp2_conn_writev_stream(conn, NULL, NULL, NULL, 0, NULL, NGTCP2_WRITE_STREAM_FLAG_NONE,
                                                  stream, &endless, 1, 0);
  return result == NGTCP2_ERR_STREAM_SHUT_WR || result == NGTCP2_ERR_STREAM_NOT_FOUND;
}

static inline ngtcp2_ssize shim_conn_write_transport_close(ngtcp2_conn *conn, uint8_t *target, size_t size,
                                                           int library_error, ngtcp2_tstamp now) {
  ngtcp2_connection_close_error error;
  ngtcp2_pkt_info info;
  if (library_error == NGTCP2_ERR_CRYPTO) {
    ngtcp2_connection_close_error_set_transport_error_tls_alert(&error, ngtcp2_conn_get_tls_alert(conn), NULL, 0);
  } else {
    ngtcp2_connection_close_error_set_transport_error_liberr(&error, library_error, NULL, 0);
  }
  return ngtcp2_conn_write_connection_close(conn, NULL, &info, target, size, &error, now);
}

static inline ngtcp2_ssize shim_conn_write_alert_close(ngtcp2_conn *conn, uint8_t *target, size_t size,
                                                       uint8_t alert, ngtcp2_tstamp now) {
  ngtcp2_connection_close_error error;
  ngtcp2_pkt_info info;
  ngtcp2_connection_close_error_set_transport_error_tls_alert(&error, alert, NULL, 0);
  return ngtcp2_conn_write_connection_close(conn, NULL, &info, target, size, &error, now);
}

static inline ngtcp2_ssize shim_conn_write_application_close(ngtcp2_conn *conn, uint8_t *target, size_t size,
                                                             uint64_t code, ngtcp2_tstamp now) {
  ngtcp2_connection_close_error error;
  ngtcp2_pkt_info info;
  ngtcp2_connection_close_error_set_application_error(&error, code, NULL, 0);
  return ngtcp2_conn_write_connection_close(conn, NULL, &info, target, size, &error, now);
}

// The error that the peer closed the connection with; its type, and 0 where it closed without one.
static inline uint64_t shim_conn_peer_error(ngtcp2_conn *conn, int *is_application) {
  ngtcp2_connection_close_error error;
  ngtcp2_conn_get_connection_close_error(conn, &error);
  *is_application = error.type == NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION;
  return error.error_code;
}

static inline void shim_conn_get_stat(ngtcp2_conn *conn, ngtcp2_conn_stat *stat) {
  ngtcp2_conn_get_conn_stat(conn, stat);
}
