"""The tunnel between two magicalanes, with a far end or a near end that is somebody else's."""

import base64
import socket
import ssl

import pytest
from chain import TRANSPORTS, TUNNEL_USER, exit_frontend, tunnel
from clients import HTTP, PROTOCOLS, SOCKS5, Refused, open_through, read_exactly
from far_ends import FarEnd, hold, says, server_context
from program import eventually

OK = b"HTTP/1.1 200 OK\r\n\r\n"
both = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
carriers = pytest.mark.parametrize("carrier", ["tcp", "tls"])


def near_end(programs, pair, certificates, carrier="tcp", **more):
    """A magicalane with both frontends through a tunnel to `pair`."""
    entry = {"name": "t", "type": carrier, "server": f"localhost:{pair[1]}", "connect_timeout": "2s"}
    entry.update(user=TUNNEL_USER[0], password=TUNNEL_USER[1])
    if TRANSPORTS[carrier]:
        entry["tls"] = certificates.trust
    entry.update(more)
    fronts = [
        {"name": name, "type": name, "listen": "tcp://127.0.0.1:0", "transport": "t"} for name in PROTOCOLS
    ]
    return programs.run({"frontends": fronts, "transports": [entry]})


def through(program, protocol, host="target.example", port=443):
    return open_through(protocol, program.address(protocol.name).pair, host, port)


@carriers
def test_the_request_is_a_standard_connect(carrier, programs, certificates):
    context = server_context(certificates) if carrier == "tls" else None
    with FarEnd(says(OK + b"hello"), context) as far:
        program = near_end(programs, far.pair, certificates, carrier)
        for host, written in (
            ("target.example", "target.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "[2001:db8::1]"),
        ):
            with through(program, SOCKS5, host) as stream:
                assert stream.makefile("rb").read() == b"hello", "bytes right behind the head are lost"
            head = far.heads[-1].decode()
            token = base64.b64encode(":".join(TUNNEL_USER).encode()).decode()
            assert head.startswith(f"CONNECT {written}:443 HTTP/1.1\r\n")
            assert f"\r\nhost: {written}:443\r\n" in head.lower()
            assert f"\r\nproxy-authorization: basic {token}\r\n".lower() in head.lower() and token in head


def test_a_head_in_small_pieces_and_behind_interim_answers_is_read(programs, certificates):
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 299 Sure\r\nX: y\r\n\r\nhello"
    with FarEnd(says(*(bytes([byte]) for byte in answer))) as far:
        with through(near_end(programs, far.pair, certificates), SOCKS5) as stream:
            assert stream.makefile("rb").read() == b"hello"


ANSWERS = [
    (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", {1}, {502}),
    (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", {2}, {403}),
    (
        b"HTTP/1.1 502 No\r\nProxy-Status: far; error=connection_refused\r\nContent-Length: 0\r\n\r\n",
        {5},
        {502},
    ),
    (b"HTTP/1.1 502 No\r\nProxy-Status: far; error=dns_error\r\nContent-Length: 0\r\n\r\n", {4}, {502}),
    (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", {1}, {503}),
    (b"HTTP/1.1 504 No\r\nContent-Length: 0\r\n\r\n", {4, 6}, {504}),
    (b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", {1}, {502}),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {1}, {502}),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, {1}, {502}),
    (b"", {1}, {502}),
]


@both
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer[0][:20].decode() or "nothing")
def test_what_the_far_end_answers_reaches_the_client_as_its_own_cause(
    answer, protocol, programs, certificates
):
    text, *codes = answer
    with FarEnd(says(text)) as far:
        with pytest.raises(Refused) as refusal:
            through(near_end(programs, far.pair, certificates), protocol).close()
    assert refusal.value.code in dict(zip(PROTOCOLS, codes))[protocol.name]


@both
@carriers
def test_a_far_end_that_never_answers_is_a_time_out(carrier, protocol, programs, certificates):
    context = server_context(certificates) if carrier == "tls" else None
    with FarEnd(hold, context) as far:
        program = near_end(programs, far.pair, certificates, carrier, connect_timeout="300ms")
        with pytest.raises(Refused) as refusal:
            through(program, protocol).close()
    assert refusal.value.code in protocol.timed_out


@carriers
@pytest.mark.parametrize("ending", ["close", "cut", "reset"])
def test_how_the_far_end_ends_is_how_the_client_sees_it(ending, carrier, programs, certificates):
    if (carrier, ending) == ("tcp", "cut"):
        ending = "close"  # a TCP stream has no other goodbye than FIN
    context = server_context(certificates) if carrier == "tls" else None
    with FarEnd(says(OK + b"x" * 1000, then=ending, wait=True), context) as far:
        with through(near_end(programs, far.pair, certificates, carrier), SOCKS5) as stream:
            assert read_exactly(stream, 1000) == b"x" * 1000
            stream.sendall(b".")
            if ending == "close":
                assert stream.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    assert stream.recv(1) != b"", "a clean end"


@pytest.mark.parametrize("carrier", TRANSPORTS)
def test_a_wrong_tunnel_password_opens_nothing(carrier, programs, certificates, targets, key):
    far = programs.run({"frontends": [exit_frontend(carrier, certificates)]})
    entry = tunnel(carrier, far.address("exit"), certificates, user=(TUNNEL_USER[0], "wrong"))
    fronts = [
        {"name": name, "type": name, "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
        for name in PROTOCOLS
    ]
    program = programs.run({"frontends": fronts, "transports": [entry]})
    for protocol, code in ((SOCKS5, 1), (HTTP, 502)):
        with pytest.raises(Refused) as refusal:
            through(program, protocol, targets.host, targets.port).close()
        assert refusal.value.code == code
    assert targets.opened(key) == 0
    assert "wrong" not in "".join(line for line in program.log.splitlines() if "password" not in line)


SECURE = [name for name, secure in TRANSPORTS.items() if secure]
TRUST = [
    ("another authority", lambda c: {"ca": str(c.other_ca), "server_name": "localhost"}, False),
    ("another name", lambda c: {"ca": str(c.ca), "server_name": "other.example"}, False),
    ("the system's authorities", lambda c: {}, False),
    ("an address of the certificate", lambda c: {"ca": str(c.ca)}, True),
    ("the pin of its key", lambda c: {"pin_sha256": c.pin}, True),
    ("a pin of another key", lambda c: {"pin_sha256": "00" * 32}, False),
    ("anyone", lambda c: {"insecure": True}, True),
]


@pytest.mark.parametrize(("tls", "trusted"), [row[1:] for row in TRUST], ids=[row[0] for row in TRUST])
@pytest.mark.parametrize("carrier", SECURE)
def test_a_far_end_is_trusted_as_the_config_says(carrier, tls, trusted, programs, certificates, targets, key):
    options = tls(certificates)
    far = programs.run({"frontends": [exit_frontend(carrier, certificates)]})
    entry = tunnel(carrier, far.address("exit"), certificates, tls=options)
    entry["connect_timeout"] = "3s"
    front = {"name": "socks5", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    program = programs.run({"frontends": [front], "transports": [entry]})
    if trusted:
        with through(program, SOCKS5, targets.host, targets.port) as stream:
            stream.sendall(f"echo {key}\n.".encode())
            assert read_exactly(stream, 1) == b"."
        warned = any(" warning " in line and "insecure" in line for line in program.loud_lines())
        assert warned == options.get("insecure", False), program.log
    else:
        with pytest.raises(Refused):
            through(program, SOCKS5, targets.host, targets.port).close()
        assert targets.opened(key) == 0


@pytest.mark.parametrize("who", ["nobody", "a stranger", "the client"])
@pytest.mark.parametrize("carrier", SECURE)
def test_client_certificates_are_demanded_where_the_config_says(
    carrier, who, programs, certificates, targets, key
):
    shown = {
        "nobody": {},
        "a stranger": {
            "certificate": str(certificates.stranger_certificate),
            "key": str(certificates.stranger_key),
        },
        "the client": {
            "certificate": str(certificates.client_certificate),
            "key": str(certificates.client_key),
        },
    }[who]
    server = exit_frontend(carrier, certificates)
    server["tls"] = {**certificates.server, "client_ca": str(certificates.ca)}
    far = programs.run({"frontends": [server]})
    entry = tunnel(carrier, far.address("exit"), certificates, tls={**certificates.trust, **shown})
    entry["connect_timeout"] = "3s"
    front = {"name": "socks5", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    program = programs.run({"frontends": [front], "transports": [entry]})
    if who == "the client":
        with through(program, SOCKS5, targets.host, targets.port) as stream:
            stream.sendall(f"echo {key}\n.".encode())
            assert read_exactly(stream, 1) == b"."
    else:
        with pytest.raises(Refused):
            through(program, SOCKS5, targets.host, targets.port).close()
        assert targets.opened(key) == 0


@pytest.mark.parametrize("carrier", TRANSPORTS)
def test_a_far_end_that_restarts_is_found_again(carrier, programs, certificates, targets, key):
    """What was open ends, as an error where the carrier can tell; what comes next works."""
    far = programs.run({"frontends": [exit_frontend(carrier, certificates)]})
    address = far.address("exit")
    front = {"name": "socks5", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    near = programs.run({"frontends": [front], "transports": [tunnel(carrier, address, certificates)]})
    open_stream = through(near, SOCKS5, targets.host, targets.port)
    far.kill()
    programs.forget(far)
    again = exit_frontend(carrier, certificates)
    again["listen"] = str(address)
    programs.run({"frontends": [again]})

    def works():
        try:
            with through(near, SOCKS5, targets.host, targets.port) as stream:
                stream.sendall(f"echo {key}\n.".encode())
                return read_exactly(stream, 1) == b"."
        except (Refused, EOFError, OSError):
            return False

    eventually(works, "the tunnel works again", seconds=30)
    with open_stream:
        if carrier == "tcp":  # the kernel sends a FIN for a dead process: nothing tells it from an end
            assert open_stream.recv(1) == b""
        else:
            with pytest.raises(ConnectionError):
                assert open_stream.recv(1) != b"", "a clean end of a stream whose tunnel was lost"


@pytest.mark.parametrize("carrier", TRANSPORTS)
def test_a_far_end_that_is_not_there_is_an_answer_and_no_hang(carrier, programs, certificates):
    kind = socket.SOCK_DGRAM if carrier == "quic" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as nobody:
        nobody.bind(("127.0.0.1", 0))
        program = near_end(programs, nobody.getsockname(), certificates, carrier, connect_timeout="500ms")
        for protocol in PROTOCOLS.values():
            with pytest.raises(Refused):
                through(program, protocol).close()


def test_tls_1_2_is_not_spoken_with_a_far_end(programs, certificates):
    context = server_context(certificates, most=ssl.TLSVersion.TLSv1_2)
    with FarEnd(says(OK), context) as far:
        with pytest.raises(Refused):
            through(near_end(programs, far.pair, certificates, "tls"), SOCKS5).close()
        assert far.heads == []


def test_frontends_of_one_program_use_transports_of_their_own(programs, certificates, targets, key):
    """One far end for each frontend: what goes where is what the config says."""
    with FarEnd(says(OK + b"first")) as first, FarEnd(says(OK + b"second")) as second:
        transports = [
            {"name": name, "type": "tcp", "server": f"127.0.0.1:{far.pair[1]}"}
            for name, far in (("one", first), ("two", second))
        ]
        fronts = [
            {"name": name, "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": name}
            for name in ("one", "two")
        ]
        program = programs.run({"frontends": fronts, "transports": transports})
        for name, word in (("one", b"first"), ("two", b"second")):
            with open_through(SOCKS5, program.address(name).pair, "x.example", 80) as stream:
                assert stream.makefile("rb").read() == word
