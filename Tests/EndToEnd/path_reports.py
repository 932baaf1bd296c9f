"""The client's side of path reports (docs/path-reports.md), byte by byte."""

import base64
import itertools

from clients import Refused, read_exactly, read_until

LEG = "0123456789abcdef0123456789abcdef"
UPGRADE = "Connection: Upgrade\r\nUpgrade: magicalane-path/1\r\n"


def leg_field(leg=LEG):
    return f"Magicalane-Leg: {leg}\r\n"


def request(credentials=None, fields=UPGRADE + leg_field()):
    login = ""
    if credentials:
        token = base64.b64encode(":".join(credentials).encode()).decode()
        login = f"Proxy-Authorization: Basic {token}\r\n"
    return f"GET /.well-known/magicalane/path HTTP/1.1\r\nHost: x\r\n{login}{fields}\r\n".encode()


def number(value):
    """A variable-length integer (RFC 9000 §16)."""
    for prefix, size in ((0, 1), (1, 2), (2, 4), (3, 8)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def numbers(data):
    """All variable-length integers in the bytes."""
    found = []
    while data:
        size = 1 << (data[0] >> 6)
        found.append(int.from_bytes(data[:size], "big") & ((1 << (8 * size - 2)) - 1))
        data = data[size:]
    return found


def query(value):
    payload = number(value)
    return bytes([1]) + number(len(payload)) + payload


class Report:
    """One report, taken apart."""

    def __init__(self, payload):
        self.number, self.sent, fields, *rest = numbers(payload)
        rest = iter(rest)
        self.received = next(rest) if fields & 1 else None
        self.lost = next(rest) if fields & 2 else None
        self.round_trip, self.variation = (next(rest), next(rest)) if fields & 4 else (None, None)


class Reports:
    """A control stream over a socket, TLS or not."""

    def __init__(self, stream, credentials=None, fields=UPGRADE + leg_field()):
        self.stream, self.numbers = stream, itertools.count(1)
        stream.sendall(request(credentials, fields))
        self.head = read_until(stream, b"\r\n\r\n")
        status = int(self.head.split()[1])
        if status != 101:
            raise Refused(status, self.head)

    def ask(self):
        asked = next(self.numbers)
        self.stream.sendall(query(asked))
        report = self.read()
        assert report.number == asked
        return report

    def read(self):
        kind, length = read_exactly(self.stream, 2)
        assert kind == 2 and length < 64
        return Report(read_exactly(self.stream, length))
