"""Far ends that are not ours: small CONNECT servers that behave, or misbehave, as a test wants."""

import contextlib
import socket
import ssl
import threading

from clients import read_until
from targets import RESET


class FarEnd:
    """Accepts connections on a thread; each reads a CONNECT head and then runs `behave(stream, head)`.

    `context`: TLS with this `ssl.SSLContext`; without, plain TCP.
    """

    def __init__(self, behave, context=None):
        self.behave, self.context = behave, context
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.pair = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with contextlib.suppress(OSError, EOFError):
            stream.settimeout(30)
            if self.context:
                stream = self.context.wrap_socket(stream, server_side=True)
            head = read_until(stream, b"\r\n\r\n")
            self.heads.append(head)
            self.behave(stream, head)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def server_context(certificates, most=ssl.TLSVersion.TLSv1_3, alpn=("http/1.1",), client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.maximum_version = most
    context.set_alpn_protocols(list(alpn))
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def says(*parts, then="close", wait=False):
    """Sends these bytes, then ends: cleanly, without a TLS goodbye (`cut`), or with a RST.

    `wait`: not before a byte came; a RST overtakes bytes that were not read yet.
    """

    def behave(stream, head):
        for part in parts:
            stream.sendall(part)
        if wait:
            stream.recv(1)
        if then == "close" and isinstance(stream, ssl.SSLSocket):
            stream = stream.unwrap()
        elif then == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif isinstance(stream, ssl.SSLSocket):
            # The plain socket under the session: a FIN where a close_notify should be.
            stream = socket.socket(fileno=stream.detach())
        stream.close()

    return behave


def hold(stream, head):
    """Takes the request and never answers."""
    stream.recv(1)


def relay_in_turns(stream, head):
    """A CONNECT proxy that knows nothing of ours. For targets that answer what they get at once, and in one piece."""
    method, target, _ = head.split(b" ", 2)
    if method != b"CONNECT":
        stream.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\n\r\n")
        return stream.close()
    host, _, port = target.decode().rpartition(":")
    with stream, socket.create_connection((host, int(port)), timeout=30) as other:
        stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while data := stream.recv(1 << 16):
            other.sendall(data)
            stream.sendall(other.recv(1 << 16))
