"""Every frontend × every listen transport × every connect transport, one chain of programs for each cell.

The client is always a plain TCP socket. Into a TLS listener it goes through OpenSSL, into a QUIC listener
through aioquic (see bridge.py). Bulk is where that matters: aioquic moves a few megabytes a second, so
- http on QUIC takes its bulk through a third magicalane, whose QUIC transport speaks CONNECT to it;
- socks5 on QUIC has no such client: it takes 4 MiB each way here, and 64 MiB in the soak.
"""

import select
import socket

import pytest
from chain import CONNECTS, FRONT_USER, FRONTENDS, LISTENERS, Chain, tunnel
from clients import (
    SOCKS5,
    Refused,
    Uploading,
    connect,
    many,
    open_through,
    read_exactly,
    receive_digest,
    reset,
)
from targets import digest

MiB = 1 << 20
# Sockets that a program keeps whatever sessions come and go: tunnel connections, one for each event loop.
KEPT = 24

CELLS = [
    (frontend, listener, connect) for frontend in FRONTENDS for listener in LISTENERS for connect in CONNECTS
]


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request, tmp_path_factory, certificates, targets):
    directory = tmp_path_factory.mktemp("-".join(request.param))
    with Chain(directory, certificates, *request.param) as chain:
        running = [program for program in (chain.near, chain.far) if program]
        before = [program.descriptors for program in running]
        yield chain
        for program, count in zip(running, before):
            program.descriptors_return_to(count + KEPT)


@pytest.fixture
def bulk(cell):
    """Opens streams fit for bulk, and says how much to send each way."""
    if cell.listener != "quic":
        return cell.open, 64 * MiB
    if cell.protocol.name == "socks5":
        return cell.open, 4 * MiB
    return third_magicalane(cell), 64 * MiB


def third_magicalane(cell):
    front = {"name": "entry", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    into = tunnel(cell.listener, cell.near.address("front"), cell.certificates, user=FRONT_USER)
    entry = cell.programs.run({"frontends": [front], "transports": [into]}).address("entry").pair
    return lambda host, port: open_through(SOCKS5, entry, host, port)


def exchange(stream, targets, key, size):
    """Both ways at once, each checked by the one who receives."""
    with stream:
        stream.sendall(f"source {key} {size} 1\n".encode())
        sending = Uploading(stream, size, 2)
        count, checksum = receive_digest(stream)
        sending.finish()
    assert (count, checksum) == (size, digest(size, 1))
    seen = targets.outcome(key)
    assert (seen["bytes"], seen["sha256"], seen["end"]) == (size, digest(size, 2), "clean")


def test_single_bytes_pass_at_once_both_ways(cell, targets, key):
    with cell.open(targets.host, targets.port) as stream:
        for byte in f"echo {key}\n".encode():
            stream.sendall(bytes([byte]))
        for byte in bytes(range(200)):
            stream.sendall(bytes([byte]))
            assert stream.recv(1) == bytes([byte])


def test_names_and_ipv6_addresses_are_reached(cell, targets, key):
    for host in ("localhost", "::1"):
        with cell.open(host, targets.port) as stream:
            stream.sendall(f"echo {key}\nhello".encode())
            assert read_exactly(stream, 5) == b"hello"


def test_bulk_arrives_unchanged_both_ways(cell, bulk, targets, key):
    open_stream, size = bulk
    exchange(open_stream(targets.host, targets.port), targets, key, size)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[1] == "quic"], ids="-".join, indirect=True)
def test_64_mib_arrive_unchanged_through_other_peoples_clients(cell, targets, key):
    exchange(cell.open(targets.host, targets.port), targets, key, 64 * MiB)


def test_the_client_ends_its_direction_and_still_receives(cell, targets, key):
    size = 300_000
    with cell.open(targets.host, targets.port) as stream:
        stream.sendall(f"sink {key}\n".encode() + b"x" * size)
        stream.shutdown(socket.SHUT_WR)
        answer = stream.makefile("rb").read()
    assert answer.split()[0] == str(size).encode()
    assert targets.outcome(key)["end"] == "clean"


def test_the_target_ends_its_direction_and_still_receives(cell, targets, key):
    with cell.open(targets.host, targets.port) as stream:
        stream.sendall(f"source {key} 1000 3\n".encode())
        assert receive_digest(stream) == (1000, digest(1000, 3))
        for _ in range(10):
            stream.sendall(b"y" * 10_000)
        stream.shutdown(socket.SHUT_WR)
        seen = targets.outcome(key)
    assert (seen["bytes"], seen["end"]) == (100_000, "clean")


def test_a_reset_by_the_target_is_an_error_for_the_client(cell, targets, key):
    with cell.open(targets.host, targets.port) as stream:
        stream.sendall(f"reset {key} 1000\n".encode())
        read_exactly(stream, 1000)
        stream.sendall(b".")
        with pytest.raises(ConnectionResetError):
            assert stream.recv(1) != b"", "a clean end where the target had reset"


def test_a_reset_by_the_client_is_an_error_for_the_target(cell, targets, key):
    stream = cell.open(targets.host, targets.port)
    stream.sendall(f"echo {key}\n.".encode())
    read_exactly(stream, 1)
    reset(stream)
    assert targets.outcome(key)["end"] == "reset"


def test_a_refusing_target_has_its_own_reply(cell, targets):
    with pytest.raises(Refused) as refusal:
        cell.open(targets.host, targets.refusing_port)
    assert refusal.value.code in cell.protocol.refused
    assert cell.protocol.name == "socks5" or b"connection_refused" in refusal.value.head


def test_an_unknown_name_has_its_own_reply(cell):
    with pytest.raises(Refused) as refusal:
        cell.open("no-such-name.invalid", 80)
    assert refusal.value.code in cell.protocol.unknown_name
    assert cell.protocol.name == "socks5" or b"dns_error" in refusal.value.head


def test_a_wrong_password_opens_nothing(cell, targets, key):
    for credentials in ((FRONT_USER[0], "wrong"), ("stranger", FRONT_USER[1]), None):
        with pytest.raises((Refused, EOFError, ConnectionError)) as refusal:
            with cell.open(targets.host, targets.port, credentials) as stream:
                stream.sendall(f"echo {key}\n".encode())
        if credentials and refusal.type is Refused:
            assert refusal.value.code in cell.protocol.wrong_password
    assert targets.opened(key) == 0


def test_200_sessions_at_once_keep_their_bytes_apart(cell, targets, key):
    with many(200, lambda _: cell.open(targets.host, targets.port)) as streams:
        for index, stream in enumerate(streams):
            stream.sendall(f"echo {key}/{index}\n".encode())
        for index, stream in enumerate(streams):
            stream.sendall(index.to_bytes(4, "big") * 256)
        for index, stream in enumerate(streams):
            assert read_exactly(stream, 1024) == index.to_bytes(4, "big") * 256
        assert targets.opened(f"{key}/") == 200


def test_targets_that_never_answer_hold_up_no_other_session(cell, targets, key):
    def ask_for_a_black_hole(_):
        stream = connect(cell.proxy)
        stream.sendall(cell.protocol.opening(targets.host, targets.black_hole_port, FRONT_USER))
        if cell.protocol is SOCKS5:
            assert read_exactly(stream, 4) == b"\x05\x02\x01\x00"
        return stream

    with many(4, ask_for_a_black_hole) as waiting, cell.open(targets.host, targets.port) as silent:
        silent.sendall(f"silent {key}/silent\nhello?".encode())
        for index in range(20):
            with cell.open(targets.host, targets.port) as stream:
                stream.sendall(f"echo {key}/{index}\n.".encode())
                assert read_exactly(stream, 1) == b"."
        assert silent not in select.select([silent], [], [], 0)[0]
        assert not select.select(waiting, [], [], 0)[0], "a black hole answered"
