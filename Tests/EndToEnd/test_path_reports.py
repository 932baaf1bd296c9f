"""What a server counts of a leg, as it tells it on a control stream (docs/path-reports.md)."""

import asyncio
import os
import signal
import subprocess

import path_reports
import pytest
from bridge import tls_context
from clients import HTTP, Refused, connect, read_exactly, read_until
from path_reports import UPGRADE, Reports, leg_field
from program import Programs, eventually
from quic import client

USERS = [{"name": name, "password": f"{name}'s"} for name in ("alice", "bob")]
ALICE, BOB = ("alice", "alice's"), ("bob", "bob's")
SCHEMES = ("tcp", "tls")


@pytest.fixture(scope="module")
def program(tmp_path_factory, certificates):
    programs = Programs(tmp_path_factory.mktemp("reports"))
    fronts = [
        {"name": f"{scheme}{suffix}", "type": "http", "listen": f"{scheme}://127.0.0.1:0", **keys}
        for scheme in (*SCHEMES, "quic")
        for suffix, keys in (("", {}), ("-users", {"users": USERS}))
    ]
    for front in fronts:
        if not front["listen"].startswith("tcp"):
            front["tls"] = certificates.server
    yield programs.run({"frontends": fronts})
    programs.stop()


@pytest.fixture
def dial(program, certificates):
    """Opens streams to a frontend, and closes them behind the test."""
    opened = []

    def dial(name):
        stream = connect(program.address(name).pair)
        if name.startswith("tls"):
            context = tls_context(certificates.ca)
            stream = context.wrap_socket(stream, server_hostname="localhost")
        opened.append(stream)
        return stream

    yield dial
    for stream in opened:
        stream.close()


@pytest.fixture
def leg():
    """A leg that no other test uses."""
    return os.urandom(16).hex()


def download(stream, targets, key, size, fields, credentials=None):
    stream.sendall(HTTP.opening(targets.host, targets.port, credentials, fields))
    HTTP.read_answer(stream)
    stream.sendall(f"source {key} {size} 1\n".encode())
    read_exactly(stream, size)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_counts_rise_with_the_sessions_of_the_leg_and_stay_when_they_end(scheme, dial, leg, targets, key):
    reports = Reports(dial(scheme), fields=UPGRADE + leg_field(leg))
    first = reports.ask()
    assert first.lost == 0 and first.received is None and first.round_trip > 0
    stream = dial(scheme)
    download(stream, targets, key, 4_000_000, leg_field(leg))
    # Loopback segments hold up to 64 KiB.
    during = reports.ask()
    assert during.sent >= first.sent + 60
    stream.close()
    eventually(lambda: reports.ask().sent >= during.sent, "the ended session stays in the sum")
    assert reports.ask().sent < during.sent + 50


def test_a_session_that_the_kernel_could_move_is_counted_to_its_end(dial, leg, targets, key):
    reports = Reports(dial("tcp"), fields=UPGRADE + leg_field(leg))
    stream = dial("tcp")
    download(stream, targets, key, 64_000_000, leg_field(leg))
    assert reports.ask().sent >= 64_000_000 // 65536


def test_another_leg_and_no_leg_are_not_counted(dial, leg, targets, key):
    reports = Reports(dial("tcp"), fields=UPGRADE + leg_field(leg))
    download(dial("tcp"), targets, f"{key}/other", 2_000_000, leg_field(os.urandom(16).hex()))
    download(dial("tcp"), targets, f"{key}/none", 2_000_000, "")
    download(dial("tcp"), targets, f"{key}/malformed", 2_000_000, "Magicalane-Leg: nonsense\r\n")
    assert reports.ask().sent < 10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reports_want_the_password_and_are_the_users_own(scheme, dial, leg, targets, key):
    fields = UPGRADE + leg_field(leg)
    for credentials in (None, ("alice", "wrong"), ("mallory", "alice's")):
        with pytest.raises(Refused) as refusal:
            Reports(dial(f"{scheme}-users"), credentials, fields)
        assert refusal.value.code == 407
    download(dial(f"{scheme}-users"), targets, key, 4_000_000, leg_field(leg), ALICE)
    assert Reports(dial(f"{scheme}-users"), ALICE, fields).ask().sent >= 60
    assert Reports(dial(f"{scheme}-users"), BOB, fields).ask().sent < 20


def test_queries_right_behind_the_request_are_answered_and_the_last_of_many(dial, leg):
    stream = dial("tcp")
    behind = b"".join(path_reports.query(number) for number in (1, 2, 3)) + b"\x63\x02xx"
    stream.sendall(path_reports.request(fields=UPGRADE + leg_field(leg)) + behind)
    assert read_until(stream, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    length = read_exactly(stream, 2)[1]
    assert path_reports.Report(read_exactly(stream, length)).number == 3


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (path_reports.request(fields=leg_field()), 426),
        (path_reports.request(fields=UPGRADE), 400),
        (path_reports.request(fields=UPGRADE + leg_field("0123")), 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /.well-known/other HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
    ids=["no upgrade", "no leg", "half a leg", "a page", "another well-known"],
)
def test_what_is_no_request_for_reports_has_its_status(head, status, dial):
    stream = dial("tcp")
    stream.sendall(head)
    assert read_until(stream, b"\r\n\r\n").startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("garbage", [b"\x02\x00", b"\x01\x7f\xff", b"\x01\x01\x40", b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_in_place_of_queries_ends_the_stream(garbage, dial, leg):
    reports = Reports(dial("tcp"), fields=UPGRADE + leg_field(leg))
    reports.stream.sendall(garbage)
    try:
        assert reports.stream.recv(1) == b""
    except ConnectionResetError:
        pass


def test_over_quic_what_arrived_is_told_too(program, certificates, leg, targets, key):
    async def test():
        async with client(program.address("quic").pair, certificates.ca) as connection:
            reader, writer = await connection.create_stream()
            writer.write(path_reports.request(fields=UPGRADE + leg_field(leg)))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

            async def ask(number):
                writer.write(path_reports.query(number))
                _, length = await reader.readexactly(2)
                return path_reports.Report(await reader.readexactly(length))

            first = await ask(1)
            assert first.lost is None and 0 < first.received < 30 and first.round_trip > 0
            other, sink = await connection.create_stream()
            sink.write(HTTP.opening(targets.host, targets.port, extra=leg_field(leg)))
            await other.readuntil(b"\r\n\r\n")
            sink.write(f"echo {key}\n".encode() + b"x" * 200_000)
            assert len(await other.readexactly(200_000)) == 200_000
            second = await ask(2)
            assert second.received > first.received + 100 and second.sent > first.sent + 100
            # The path is one, whatever number of streams it carries.
            assert second.sent < 1000

    asyncio.run(test())


def test_control_streams_end_at_once_when_the_program_drains(programs, tmp_path, targets, key):
    front = {"name": "front", "type": "http", "listen": "tcp://127.0.0.1:0"}
    limits = {"drain_timeout": "60s"}
    program = programs.run({"frontends": [front], "limits": limits})
    reports = Reports(connect(program.address("front").pair))
    reports.ask()
    program.signal(signal.SIGTERM)
    try:
        assert program.wait(20) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("the control stream held up the drain")
    assert reports.stream.recv(1) == b""
    reports.stream.close()
    programs.forget(program)


def test_a_leg_goes_on_where_another_control_stream_asks(dial, leg, targets, key):
    fields = UPGRADE + leg_field(leg)
    reports = Reports(dial("tls"), fields=fields)
    download(dial("tls"), targets, key, 4_000_000, leg_field(leg))
    before = reports.ask()
    reports.stream.close()
    assert Reports(dial("tls"), fields=fields).ask().sent >= before.sent
