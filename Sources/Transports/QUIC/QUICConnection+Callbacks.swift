import CGnuTLS
import CNgtcp2

/// The connection behind ngtcp2's `user_data`, which is the anchor of a `QUICConnection`.
private func owner(_ data: UnsafeMutableRawPointer?) -> QUICConnection? {
  guard let owner = data?.assumingMemoryBound(to: shim_anchor.self).pointee.owner else { return nil }
  // The connection outlives its ngtcp2_conn, which alone calls back.
  return Unmanaged<QUICConnection>.fromOpaque(owner).takeUnretainedValue()
}

/// The stream behind ngtcp2's `stream_user_data`; the connection holds it until `stream_close`.
private func stream(_ data: UnsafeMutableRawPointer?) -> QUICStream? {
  data.map { Unmanaged<QUICStream>.fromOpaque($0).takeUnretainedValue() }
}

extension QUICConnection {
  /// What ngtcp2 calls: the crypto library's own functions, and below them ours, each of which finds its
  /// connection, makes one call and returns.
  static func callbacks(isServer: Bool) -> ngtcp2_callbacks {
    var callbacks = ngtcp2_callbacks()
    setCrypto(&callbacks, isServer: isServer)
    setConnection(&callbacks)
    setStreams(&callbacks)
    return callbacks
  }

  private static func setCrypto(_ callbacks: inout ngtcp2_callbacks, isServer: Bool) {
    if isServer {
      callbacks.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb
    } else {
      callbacks.client_initial = ngtcp2_crypto_client_initial_cb
      callbacks.recv_retry = { conn, header, user in
        owner(user)?.wasRetried = true
        return ngtcp2_crypto_recv_retry_cb(conn, header, user)
      }
    }
    callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb
    callbacks.encrypt = ngtcp2_crypto_encrypt_cb
    callbacks.decrypt = ngtcp2_crypto_decrypt_cb
    callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb
    callbacks.update_key = ngtcp2_crypto_update_key_cb
    callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb
    callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb
    callbacks.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb
    callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb
    callbacks.rand = { target, count, _ in
      if let target { fillRandom(target, count) }
    }
  }

  private static func setConnection(_ callbacks: inout ngtcp2_callbacks) {
    callbacks.handshake_completed = { _, user in
      owner(user)?.handshakeDone = true
      return 0
    }
    callbacks.get_new_connection_id = { _, cid, token, _, user in
      guard let connection = owner(user), let cid, let token else { return NGTCP2_ERR_CALLBACK_FAILURE }
      return connection.makeConnectionID(cid, token) ? 0 : NGTCP2_ERR_CALLBACK_FAILURE
    }
    callbacks.remove_connection_id = { _, cid, user in
      if let cid { owner(user)?.events.append(.connectionIDRetired(ConnectionID(cid.pointee))) }
      return 0
    }
    callbacks.recv_stateless_reset = { _, _, user in
      owner(user)?.wasReset = true
      return 0
    }
    callbacks.extend_max_local_streams_bidi = { _, _, user in
      owner(user)?.events.append(.streamsAllowed)
      return 0
    }
    callbacks.recv_new_token = { _, token, user in
      guard let token = token?.pointee, let base = token.base else { return 0 }
      owner(user)?.events.append(.tokenReceived(Array(UnsafeBufferPointer(start: base, count: token.len))))
      return 0
    }
  }

  private static func setStreams(_ callbacks: inout ngtcp2_callbacks) {
    callbacks.stream_open = { _, id, user in
      owner(user)?.peerOpened(id)
      return 0
    }
    callbacks.recv_stream_data = { _, flags, _, _, data, count, user, streamUser in
      guard let connection = owner(user), let stream = stream(streamUser) else { return 0 }
      let isLast = flags & UInt32(NGTCP2_STREAM_DATA_FLAG_FIN) != 0
      connection.arrived(UnsafeRawBufferPointer(start: data, count: count), isLast: isLast, on: stream)
      return 0
    }
    callbacks.acked_stream_data_offset = { _, _, offset, count, user, streamUser in
      guard let connection = owner(user), let stream = stream(streamUser) else { return 0 }
      stream.output.acknowledge(upTo: offset + count)
      stream.countOutput()
      if stream.isHeldBack { connection.wantsTurn(stream) }
      connection.markChanged(stream)
      return 0
    }
    callbacks.stream_close = { _, _, id, _, user, streamUser in
      guard let connection = owner(user), let stream = stream(streamUser) else { return 0 }
      connection.closed(stream)
      return 0
    }
    callbacks.stream_reset = { _, _, _, code, user, streamUser in
      guard let connection = owner(user), let stream = stream(streamUser) else { return 0 }
      stream.resetCode = code
      stream.countInput()
      connection.markChanged(stream)
      return 0
    }
    callbacks.extend_max_stream_data = { _, _, _, user, streamUser in
      guard let connection = owner(user), let stream = stream(streamUser) else { return 0 }
      connection.wantsTurn(stream)
      return 0
    }
  }
}

// What the callbacks record.
extension QUICConnection {
  fileprivate func makeConnectionID(
    _ cid: UnsafeMutablePointer<ngtcp2_cid>,
    _ token: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    let id = ids.make()
    cid.pointee = id.cid
    events.append(.connectionIDAdded(id))
    return ids.writeResetToken(of: id, to: token)
  }

  fileprivate func peerOpened(_ id: Int64) {
    let stream = QUICStream(id: id, windows: settings.windows)
    adopt(stream)
    events.append(.streamOpened(stream))
  }

  fileprivate func arrived(_ bytes: UnsafeRawBufferPointer, isLast: Bool, on stream: QUICStream) {
    if bytes.count > 0 {
      stream.received.append(bytes)
      ngtcp2_conn_extend_max_offset(conn, UInt64(bytes.count))
    }
    if isLast { stream.isInputFinished = true }
    stream.countInput()
    markChanged(stream)
  }

  fileprivate func closed(_ stream: QUICStream) {
    stream.isClosed = true
    stream.countInput()
    // Closed although we did not end it: the peer did, by STOP_SENDING.
    if !stream.isFinSent { stopped(stream) }
    streams[stream.id] = nil
    if streams.isEmpty { setKeepAlive() }
    if isServer && acceptsStreams { ngtcp2_conn_extend_max_streams_bidi(conn, 1) }
    markChanged(stream)
  }
}
