"""What the frontends answer, byte for byte, to clients that are slow, fast or wrong."""

import re
import socket

import pytest
from chain import FRONT_USER, users
from clients import HTTP, PROTOCOLS, SOCKS5, Refused, connect, open_through, read_exactly, read_until


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    from program import Programs

    programs = Programs(tmp_path_factory.mktemp("frontends"))
    listen = "tcp://127.0.0.1:0"
    fronts = [{"name": name, "type": name, "listen": listen} for name in PROTOCOLS]
    fronts += [
        {"name": f"{name}-users", "type": name, "listen": listen, "users": users(FRONT_USER)}
        for name in PROTOCOLS
    ]
    fronts += [
        {"name": f"{name}-hasty", "type": name, "listen": listen, "handshake_timeout": "300ms"}
        for name in PROTOCOLS
    ]
    fronts += [
        {"name": f"{name}-slow", "type": name, "listen": listen, "transport": "slow"} for name in PROTOCOLS
    ]
    slow = {"name": "slow", "type": "tcp", "connect_timeout": "300ms"}
    yield programs.run({"frontends": fronts, "transports": [slow]})
    programs.stop()


def front(program, protocol, kind=""):
    return program.address(protocol.name + kind).pair


both = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@both
def test_a_handshake_byte_by_byte_is_understood(protocol, program, targets, key):
    with connect(front(program, protocol, "-users")) as stream:
        for byte in protocol.opening("localhost", targets.port, FRONT_USER) + f"echo {key}\n.".encode():
            stream.sendall(bytes([byte]))
        protocol.read_answer(stream, FRONT_USER)
        assert read_exactly(stream, 1) == b"."


@both
def test_a_handshake_in_one_segment_with_payload_behind_loses_nothing(protocol, program, targets, key):
    payload = bytes(range(256)) * 400
    with connect(front(program, protocol, "-users")) as stream:
        stream.sendall(protocol.opening("::1", targets.port, FRONT_USER) + f"echo {key}\n".encode() + payload)
        stream.shutdown(socket.SHUT_WR)
        protocol.read_answer(stream, FRONT_USER)
        assert stream.makefile("rb").read() == payload


@both
def test_a_client_that_says_nothing_is_cut_off(protocol, program):
    for start in (b"", protocol.opening("localhost", 80)[:-1]):
        with connect(front(program, protocol, "-hasty")) as stream:
            stream.sendall(start)
            try:
                stream.makefile("rb").read()
            except ConnectionResetError:
                pass


@both
def test_a_target_that_does_not_answer_is_a_time_out(protocol, program, targets):
    with pytest.raises(Refused) as refusal:
        open_through(protocol, front(program, protocol, "-slow"), targets.host, targets.black_hole_port)
    assert refusal.value.code in {"socks5": {6}, "http": {504}}[protocol.name]


@both
def test_a_password_too_many_does_no_harm(protocol, program, targets, key):
    """Clients that are set to send credentials do so even where none are asked for."""
    if protocol is HTTP:
        with open_through(HTTP, front(program, HTTP), targets.host, targets.port, ("who", "cares")):
            return
    with connect(front(program, SOCKS5)) as stream:
        stream.sendall(SOCKS5.greeting("who"))
        assert read_exactly(stream, 2) == b"\x05\x02"
        stream.sendall(SOCKS5.login("who", "cares"))
        assert read_exactly(stream, 2) == b"\x01\x00"


@pytest.mark.parametrize("command", [2, 3], ids=["BIND", "UDP ASSOCIATE"])
def test_socks5_commands_other_than_connect_are_not_supported(command, program):
    with connect(front(program, SOCKS5)) as stream:
        stream.sendall(SOCKS5.greeting() + SOCKS5.request("127.0.0.1", 80, command))
        assert read_exactly(stream, 2) == b"\x05\x00"
        with pytest.raises(Refused) as refusal:
            SOCKS5.read_reply(stream)
        assert refusal.value.code == 7
        assert stream.recv(1) == b""


def test_socks5_address_types_are_checked(program):
    with connect(front(program, SOCKS5)) as stream:
        stream.sendall(SOCKS5.greeting() + b"\x05\x01\x00\x09\x00\x00\x00\x00\x00\x00")
        assert read_exactly(stream, 4)[:4] == b"\x05\x00\x05\x08"


def test_socks5_without_an_acceptable_method_says_so(program):
    with connect(front(program, SOCKS5, "-users")) as stream:
        stream.sendall(b"\x05\x02\x00\x01")
        assert stream.makefile("rb").read() == b"\x05\xff"


HEADS = [
    ("a method other than CONNECT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("an absolute URL", b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 405),
    ("no HTTP", b"hello there\r\n\r\n", 400),
    ("a target without a port", b"CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("port 0", b"CONNECT localhost:0 HTTP/1.1\r\nHost: localhost:0\r\n\r\n", 400),
    ("port 65536", b"CONNECT localhost:65536 HTTP/1.1\r\nHost: localhost:65536\r\n\r\n", 400),
    ("a bare IPv6 address", b"CONNECT ::1:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a head without an end", b"CONNECT localhost:80 HTTP/1.1\r\nX: " + b"y" * 300_000, 431),
    ("an endless first line", b"C" * 300_000, 431),
    ("many short fields", b"CONNECT localhost:80 HTTP/1.1\r\n" + b"X: y\r\n" * 60_000, 431),
    ("a field without a name", b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
    ("a folded field", b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
]


@pytest.mark.parametrize(("head", "status"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_http_heads_that_are_wrong_have_their_own_status(head, status, program):
    with connect(front(program, HTTP)) as stream:
        try:
            stream.sendall(head)
        except OSError:
            pass  # refused before all of it was sent
        with pytest.raises(Refused) as refusal:
            HTTP.read_answer(stream)
    assert refusal.value.code == status


def test_http_asks_for_a_password_in_the_words_of_rfc_9110(program, targets, key):
    with connect(front(program, HTTP, "-users")) as stream:
        stream.sendall(HTTP.opening(targets.host, targets.port))
        head = read_until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 407 ")
        assert re.search(rb"(?im)^Proxy-Authenticate: Basic realm=", head)


def test_http_says_why_in_proxy_status(program, targets):
    with pytest.raises(Refused) as refusal:
        open_through(HTTP, front(program, HTTP), targets.host, targets.refusing_port)
    assert re.search(rb"(?im)^Proxy-Status: [^;]+; ?error=connection_refused", refusal.value.head)


def test_an_idle_session_ends_after_its_time(tmp_path, programs, targets, key):
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0", "idle_timeout": "300ms"}
    proxy = programs.run({"frontends": [front]}).address("front").pair
    with open_through(SOCKS5, proxy, targets.host, targets.port) as stream:
        stream.sendall(f"silent {key}\n.".encode())
        try:
            assert stream.recv(1) == b""
        except ConnectionResetError:
            pass
        targets.outcome(key)


@both
def test_more_sessions_than_allowed_are_unavailable(protocol, programs, targets):
    front = {"name": "front", "type": protocol.name, "listen": "tcp://127.0.0.1:0"}
    proxy = programs.run({"frontends": [front], "limits": {"sessions": 3}}).address("front").pair
    open_ones = [open_through(protocol, proxy, targets.host, targets.port) for _ in range(3)]
    with pytest.raises((Refused, EOFError, ConnectionError)) as refusal:
        open_through(protocol, proxy, targets.host, targets.port).close()
    if refusal.type is Refused:
        assert refusal.value.code in {"socks5": {1}, "http": {503}}[protocol.name]
    for stream in open_ones:
        stream.close()
