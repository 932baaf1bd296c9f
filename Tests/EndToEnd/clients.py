"""Clients that speak SOCKS5 and HTTP CONNECT byte by byte, and the bytes that tests send through them.

Everything here is a plain TCP socket. A frontend that listens on TLS or QUIC is reached through a bridge
(see bridge.py), so that one suite holds for every listener.
"""

import base64
import contextlib
import hashlib
import ipaddress
import re
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from targets import BLOCK, RESET, blocks, digest

TIMEOUT = 60


class Refused(Exception):
    """The frontend said no: `code` is the SOCKS5 reply or the HTTP status."""

    def __init__(self, code, head=b""):
        super().__init__(f"refused with {code}: {head!r}")
        self.code = code
        self.head = head


def connect(pair, timeout=TIMEOUT):
    stream = socket.create_connection(pair, timeout=timeout)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError(f"ended after {len(data)} of {count} bytes: {data!r}")
        data += more
    return data


def read_until(stream, mark, most=65536):
    """Reads up to the mark and not one byte further."""
    data = b""
    while not data.endswith(mark):
        more = stream.recv(1)
        if not more:
            raise EOFError(f"ended within a head: {data!r}")
        data += more
        assert len(data) <= most, "a head without an end"
    return data


class SOCKS5:
    """RFC 1928 and 1929."""

    name = "socks5"
    # What a client sees for each cause.
    refused, unknown_name, not_allowed = {5}, {4}, {2}
    timed_out = {4, 6, 1}
    wrong_password = {"password"}

    @staticmethod
    def greeting(user=None):
        return b"\x05\x01\x02" if user else b"\x05\x01\x00"

    @staticmethod
    def login(user, password):
        user, password = user.encode(), password.encode()
        return b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password

    @staticmethod
    def request(host, port, command=1):
        try:
            address = ipaddress.ip_address(host)
            kind = b"\x01" if address.version == 4 else b"\x04"
            where = kind + address.packed
        except ValueError:
            where = b"\x03" + bytes([len(host)]) + host.encode()
        return b"\x05" + bytes([command]) + b"\x00" + where + struct.pack(">H", port)

    @classmethod
    def opening(cls, host, port, credentials=None):
        """All that a client says before its payload, for one segment."""
        login = cls.login(*credentials) if credentials else b""
        return cls.greeting(credentials) + login + cls.request(host, port)

    @classmethod
    def read_answer(cls, stream, credentials=None):
        version, method = read_exactly(stream, 2)
        assert version == 5
        if method == 0xFF:
            raise Refused("method")
        assert method == (2 if credentials else 0)
        if credentials:
            _, status = read_exactly(stream, 2)
            if status:
                raise Refused("password")
        cls.read_reply(stream)

    @staticmethod
    def read_reply(stream):
        version, code, _, kind = read_exactly(stream, 4)
        assert version == 5
        length = {1: 4, 4: 16}.get(kind) or read_exactly(stream, 1)[0]
        read_exactly(stream, length + 2)
        if code:
            raise Refused(code)

    @classmethod
    def open_over(cls, stream, host, port, credentials=None):
        stream.sendall(cls.greeting(credentials))
        version, method = read_exactly(stream, 2)
        if method == 0xFF:
            raise Refused("method")
        if credentials:
            stream.sendall(cls.login(*credentials))
            if read_exactly(stream, 2)[1]:
                raise Refused("password")
        stream.sendall(cls.request(host, port))
        cls.read_reply(stream)


class HTTP:
    """RFC 9110 §9.3.6."""

    name = "http"
    refused, unknown_name, not_allowed = {502}, {502}, {403}
    timed_out = {504}
    wrong_password = {407}

    @staticmethod
    def opening(host, port, credentials=None, extra=""):
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        login = ""
        if credentials:
            token = base64.b64encode(":".join(credentials).encode()).decode()
            login = f"Proxy-Authorization: Basic {token}\r\n"
        return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}{extra}\r\n".encode()

    @staticmethod
    def read_answer(stream, credentials=None):
        head = read_until(stream, b"\r\n\r\n")
        status = int(re.match(rb"HTTP/1\.1 (\d{3})", head).group(1))
        if not 200 <= status < 300:
            raise Refused(status, head)
        return head

    @classmethod
    def open_over(cls, stream, host, port, credentials=None):
        stream.sendall(cls.opening(host, port, credentials))
        cls.read_answer(stream)


PROTOCOLS = {protocol.name: protocol for protocol in (SOCKS5, HTTP)}


def open_through(protocol, proxy, host, port, credentials=None, timeout=TIMEOUT):
    """A stream to host:port through the frontend at `proxy`; raises `Refused`."""
    stream = connect(proxy, timeout)
    try:
        protocol.open_over(stream, host, port, credentials)
    except BaseException:
        stream.close()
        raise
    return stream


# Bytes and their ends


def send_blocks(stream, size, seed):
    for block in blocks(size, seed):
        stream.sendall(block)


def receive_digest(stream):
    """Reads to the end; gives the count and the checksum."""
    total, count = hashlib.sha256(), 0
    buffer = bytearray(BLOCK * 4)
    view = memoryview(buffer)
    while size := stream.recv_into(buffer):
        total.update(view[:size])
        count += size
    return count, total.hexdigest()


def download(stream, key, size, seed=1):
    """Asks the target for `size` bytes and checks them all."""
    stream.sendall(f"source {key} {size} {seed}\n".encode())
    count, checksum = receive_digest(stream)
    assert count == size
    assert checksum == digest(size, seed)
    stream.shutdown(socket.SHUT_WR)


def upload(stream, key, size, seed=2):
    """Sends `size` bytes to the target and lets it check them all."""
    stream.sendall(f"sink {key}\n".encode())
    send_blocks(stream, size, seed)
    stream.shutdown(socket.SHUT_WR)
    answer = stream.makefile("rb").readline().decode().split()
    assert answer == [str(size), digest(size, seed)]
    assert stream.recv(1) == b""


def reset(stream):
    """Ends the connection with a RST instead of a FIN."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.close()


@contextlib.contextmanager
def many(count, make, workers=40):
    """`count` things opened by many threads at once, all closed behind the test."""
    with ThreadPoolExecutor(workers) as pool:
        opened = list(pool.map(make, range(count)))
    try:
        yield opened
    finally:
        for stream in opened:
            stream.close()


class Uploading:
    """Sends in the background, so that the test can read meanwhile."""

    def __init__(self, stream, size, seed):
        self.error = None
        self.thread = threading.Thread(target=self._run, args=(stream, size, seed), daemon=True)
        self.thread.start()

    def _run(self, stream, size, seed):
        try:
            send_blocks(stream, size, seed)
            stream.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error

    def finish(self):
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()
        assert self.error is None, self.error


def curl(*arguments, timeout=60, prefix=()):
    """curl without the environment's proxies; gives the finished process."""
    return subprocess.run(
        [*prefix, "curl", "--silent", "--show-error", "--max-time", str(timeout - 5), *map(str, arguments)],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
    )
