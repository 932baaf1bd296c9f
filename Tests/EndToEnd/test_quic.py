"""The QUIC listener against aioquic, raw datagrams, and paths that lose, damage and move."""

import asyncio
import random
import socket

import pytest
from aioquic.quic.logger import QuicLogger
from chain import FRONT_USER, exit_frontend, tunnel, users
from clients import SOCKS5, Uploading, open_through, read_exactly, receive_digest
from program import Programs
from quic import Link, bad_path, client, first_flight
from targets import digest

MiB = 1 << 20


@pytest.fixture(scope="module")
def program(tmp_path_factory, certificates):
    programs = Programs(tmp_path_factory.mktemp("quic"))
    front = {"name": "front", "type": "http", "listen": "quic://127.0.0.1:0", "tls": certificates.server}
    fronts = [
        front,
        {**front, "name": "v6", "listen": "quic://[::1]:0"},
        {**front, "name": "careful", "retry": "always"},
        {**front, "name": "password", "users": users(FRONT_USER)},
        {**front, "name": "hasty", "handshake_timeout": "300ms"},
    ]
    yield programs.run({"frontends": fronts})
    programs.stop()


@pytest.fixture
def pair(program):
    return program.address("front").pair


def run(test):
    """Runs an asynchronous test, with a guard against a hang."""
    asyncio.run(asyncio.wait_for(test, 60))


def packets(logger, kind, direction="received"):
    """How many packets of a kind aioquic logged."""
    return sum(
        event["name"] == f"transport:packet_{direction}" and event["data"]["header"]["packet_type"] == kind
        for trace in logger.to_dict()["traces"]
        for event in trace["events"]
    )


@pytest.mark.parametrize("name", ["front", "v6"])
def test_a_handshake_and_a_session(name, program, certificates, targets, key):
    async def test():
        async with client(program.address(name).pair, certificates.ca) as connection:
            assert connection.handshake.alpn_protocol == "magicalane/1"
            await connection.echo(targets.host, targets.port, key)

    run(test())


def test_another_application_protocol_is_refused(pair, certificates):
    async def test():
        with pytest.raises(ConnectionError):
            async with client(pair, certificates.ca, alpn_protocols=["h3"]):
                pass

    run(test())


def test_retry_makes_a_client_prove_its_address(program, certificates, targets, key):
    async def test():
        logger = QuicLogger()
        async with client(program.address("careful").pair, certificates.ca, quic_logger=logger) as connection:
            assert packets(logger, "retry") == 1
            await connection.echo(targets.host, targets.port, key)

    run(test())


def test_a_retry_token_of_another_address_is_not_taken(program, certificates):
    """The token says for whom it was made: replayed from elsewhere it opens nothing."""

    async def test():
        pair = program.address("careful").pair
        loop = asyncio.get_running_loop()
        seen = []
        with Link(pair, lambda datagram, upward: seen.append((upward, datagram)) or [datagram]) as link:
            async with client(link.address, certificates.ca):
                pass
        # The client's second Initial, with the token of the Retry that came between.
        initials = [datagram for upward, datagram in seen if upward and datagram[0] & 0xF0 == 0xC0]
        replayed = initials[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.settimeout(2)
            stranger.sendto(replayed, pair)
            try:
                answer = await loop.run_in_executor(None, stranger.recv, 65535)
            except TimeoutError:
                return
        # A Retry, or an Initial that closes with INVALID_TOKEN; both are short. A handshake is not.
        assert len(answer) < 300, "the server went on with a handshake"

    run(test())


def test_keys_are_updated(pair, certificates, targets, key):
    async def test():
        async with client(pair, certificates.ca) as connection:
            for index in range(3):
                await connection.echo(targets.host, targets.port, f"{key}/{index}")
                await connection.ping()
                connection.request_key_update()
            await connection.echo(targets.host, targets.port, f"{key}/last")

    run(test())


def test_a_session_is_resumed_by_its_ticket(pair, certificates, targets, key):
    async def test():
        tickets = []
        async with client(pair, certificates.ca, session_ticket_handler=tickets.append) as connection:
            assert not connection.handshake.session_resumed
            await connection.echo(targets.host, targets.port, f"{key}/first")
        assert tickets, "no session ticket came"
        async with client(pair, certificates.ca, session_ticket=tickets[0]) as connection:
            assert connection.handshake.session_resumed
            assert not connection.handshake.early_data_accepted, "a CONNECT in 0-RTT could be replayed"
            await connection.echo(targets.host, targets.port, f"{key}/second")

    run(test())


def answer_to(pair, datagram, seconds=1.0):
    """What comes back for one datagram, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(seconds)
        stream.sendto(datagram, pair)
        try:
            return stream.recv(65535)
        except TimeoutError:
            return None


def long_header(version, size, destination=b"d" * 8, source=b"s" * 5):
    head = b"\xc0" + version.to_bytes(4, "big") + bytes([len(destination)]) + destination
    head += bytes([len(source)]) + source
    return head + b"\x00" * (size - len(head))


def test_an_unknown_version_is_answered_with_those_we_speak(pair):
    answer = answer_to(pair, long_header(0x1A2A3A4A, 1200), seconds=10)
    assert answer and answer[0] & 0x80 and answer[1:5] == bytes(4)
    # Its connection IDs are those of the client, crossed.
    assert answer[5 : 5 + 6] == bytes([5]) + b"s" * 5
    assert answer[11 : 11 + 9] == bytes([8]) + b"d" * 8
    versions = {answer[index : index + 4] for index in range(20, len(answer), 4)}
    assert bytes([0, 0, 0, 1]) in versions


def test_a_small_datagram_of_an_unknown_version_is_not_answered(pair):
    """RFC 9000 §6.1: the answer must not make an attack on somebody else stronger."""
    assert answer_to(pair, long_header(0x1A2A3A4A, 100)) is None


def test_a_version_negotiation_packet_is_not_answered(pair):
    assert answer_to(pair, long_header(0, 1200)) is None


def test_a_packet_of_a_lost_connection_is_answered_with_a_stateless_reset(pair):
    """RFC 9000 §10.3: shorter than what it answers, and it looks like any short packet."""
    datagram = b"\x40" + random.Random(1).randbytes(199)
    answer = answer_to(pair, datagram, seconds=10)
    assert answer and 21 <= len(answer) < len(datagram)
    assert answer[0] & 0xC0 == 0x40
    assert answer_to(pair, b"\x40" + random.Random(2).randbytes(19)) is None


def test_a_client_whose_address_changes_stays_connected(pair, certificates, targets, key):
    async def test():
        async with client(pair, certificates.ca) as connection:
            reader, writer, _ = await connection.open(targets.host, targets.port)
            writer.write(f"echo {key}\n".encode())
            for index in range(4):
                writer.write(b"%04d" % index + b"x" * 5000)
                assert (await reader.readexactly(5004))[:4] == b"%04d" % index
                await connection.ping()
                await connection.move_to_a_new_port()
            writer.write_eof()
            await reader.read()

    run(test())


def test_a_wrong_password_has_its_status_and_the_connection_goes_on(program, certificates, targets, key):
    async def test():
        async with client(program.address("password").pair, certificates.ca) as connection:
            _, _, head = await connection.open(targets.host, targets.port, (FRONT_USER[0], "wrong"))
            assert head.startswith(b"HTTP/1.1 407 ")
            _, _, head = await connection.open(targets.host, targets.port, FRONT_USER)
            assert head.startswith(b"HTTP/1.1 200 ")
        assert targets.opened(key) == 0

    run(test())


def test_a_reset_by_the_target_resets_the_stream_and_no_other(pair, certificates, targets, key):
    async def test():
        async with client(pair, certificates.ca) as connection:
            other_reader, other_writer, _ = await connection.open(targets.host, targets.port)
            other_writer.write(f"echo {key}/other\n.".encode())
            assert await other_reader.readexactly(1) == b"."
            reader, writer, _ = await connection.open(targets.host, targets.port)
            writer.write(f"reset {key} 100\n".encode())
            await reader.readexactly(100)
            writer.write(b".")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            other_writer.write(b"!")
            assert await other_reader.readexactly(1) == b"!"
            assert connection.ended is None

    run(test())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aioquic's writer ends late
def test_a_stream_without_a_request_is_cut_off(program, certificates):
    async def test():
        async with client(program.address("hasty").pair, certificates.ca) as connection:
            reader, writer = await connection.create_stream()
            writer.write(b"CONNECT")
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            assert connection.ended is None

    run(test())


def test_300_streams_on_one_connection_keep_their_bytes_apart(pair, certificates, targets, key):
    """More than a server need allow at once: the client waits for credit, and all are served."""

    async def test():
        async with client(pair, certificates.ca) as connection:
            await asyncio.gather(
                *(connection.echo(targets.host, targets.port, f"{key}/{index}", 2) for index in range(300))
            )
        assert targets.opened(f"{key}/") == 300

    run(test())


def tunnelled(programs, certificates, bend=None, **more):
    """A SOCKS5 frontend whose QUIC tunnel runs over a link; gives its address, the link, and both programs."""
    far = programs.run({"frontends": [exit_frontend("quic", certificates)]})
    address = far.address("exit")
    link = Link(address.pair, bend)
    address.host, address.port = link.address
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    near = programs.run({"frontends": [front], "transports": [tunnel("quic", address, certificates, **more)]})
    return near.address("front").pair, link, near, far


def test_a_tunnel_survives_that_its_path_is_rebound(programs, certificates, targets, key):
    proxy, link, _, _ = tunnelled(programs, certificates)
    with link, open_through(SOCKS5, proxy, targets.host, targets.port) as stream:
        stream.sendall(f"echo {key}\n".encode())
        for index in range(4):
            stream.sendall(b"%04d" % index)
            assert read_exactly(stream, 4) == b"%04d" % index
            link.rebind()
        with open_through(SOCKS5, proxy, targets.host, targets.port) as other:
            other.sendall(f"echo {key}/other\n.".encode())
            assert read_exactly(other, 1) == b"."


@pytest.mark.parametrize("congestion", ["cubic", "reno", "bbr", "bbr2"])
def test_bytes_survive_a_path_that_loses_damages_and_reorders(
    congestion, programs, certificates, targets, key
):
    size = 4 * MiB
    proxy, link, near, far = tunnelled(programs, certificates, bad_path(7), congestion=congestion)
    with link, open_through(SOCKS5, proxy, targets.host, targets.port) as stream:
        stream.sendall(f"source {key} {size} 1\n".encode())
        sending = Uploading(stream, size, 2)
        assert receive_digest(stream) == (size, digest(size, 1))
        sending.finish()
        seen = targets.outcome(key)
    assert (seen["bytes"], seen["sha256"], seen["end"]) == (size, digest(size, 2), "clean")


def test_one_reader_that_stops_holds_up_no_other_stream(programs, certificates, targets, key):
    proxy, link, _, _ = tunnelled(programs, certificates)
    with link, open_through(SOCKS5, proxy, targets.host, targets.port) as stuck:
        stuck.sendall(f"source {key}/stuck {512 * MiB} 1\n".encode())
        read_exactly(stuck, 1)
        for index in range(3):
            with open_through(SOCKS5, proxy, targets.host, targets.port) as stream:
                stream.sendall(f"source {key}/{index} {8 * MiB} 3\n".encode())
                assert receive_digest(stream) == (8 * MiB, digest(8 * MiB, 3))


def test_the_first_flight_of_a_client_is_answered_from_one_address(pair, certificates):
    """The raw datagrams that the hostile tests damage do begin a connection when they are whole."""
    answer = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(10)
        for datagram in first_flight(certificates.ca):
            stream.sendto(datagram, pair)
        answer = stream.recv(65535)
    assert answer[0] & 0x80 and answer[1:5] == b"\x00\x00\x00\x01"
