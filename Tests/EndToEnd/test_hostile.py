"""Clients that are broken or mean: the process lives, other sessions go on, and the log stays quiet."""

import random
import socket
import ssl
import time

import pytest
from bridge import Bridge, tls_context
from chain import FRONTENDS, LISTENERS
from clients import HTTP, PROTOCOLS, SOCKS5, Refused, connect, open_through, read_exactly, reset
from program import Programs, eventually
from quic import first_flight, mutated

LETTERS = b"A" * 65536


@pytest.fixture(scope="module")
def program(tmp_path_factory, certificates):
    """Every frontend on every listener, at debug level."""
    programs = Programs(tmp_path_factory.mktemp("hostile"))
    fronts = []
    for frontend in FRONTENDS:
        for listener, (wants_tls, _) in LISTENERS.items():
            front = {
                "name": f"{frontend}-{listener}",
                "type": frontend,
                "listen": f"{listener}://127.0.0.1:0",
            }
            fronts.append({**front, "tls": certificates.server} if wants_tls else front)
    yield programs.run(
        {"frontends": fronts, "log": {"level": "debug"}, "limits": {"handshake_timeout": "1s"}}
    )
    programs.stop()


class Others:
    """Sessions that were there before the trouble and must be there after."""

    def __init__(self, program, certificates, targets, key):
        self.bridges = []
        self.streams = []
        for frontend in FRONTENDS:
            for listener, (_, way_in) in LISTENERS.items():
                pair = program.address(f"{frontend}-{listener}").pair
                if way_in:
                    self.bridges.append(Bridge(way_in, pair, certificates.ca))
                    pair = self.bridges[-1].pair
                stream = open_through(PROTOCOLS[frontend], pair, targets.host, targets.port)
                stream.sendall(f"echo {key}/{frontend}-{listener}\n".encode())
                self.streams.append(stream)

    def go_on(self):
        for stream in self.streams:
            stream.sendall(b"ping")
            assert read_exactly(stream, 4) == b"ping"

    def close(self):
        for closing in (*self.streams, *self.bridges):
            closing.close()


@pytest.fixture
def quiet(program, certificates, targets, key):
    """Around a test: other sessions go on, the program lives, nothing above debug is logged, nothing leaks."""
    others = Others(program, certificates, targets, key)
    others.go_on()
    before, descriptors = len(program.loud_lines()), program.descriptors
    try:
        yield
        assert not program.has_ended, program.log[-4000:]
        others.go_on()
        program.descriptors_return_to(descriptors + 8)
    finally:
        others.close()
    assert program.loud_lines()[before:] == []
    for frontend in FRONTENDS:
        pair = program.address(f"{frontend}-tcp").pair
        open_through(PROTOCOLS[frontend], pair, targets.host, targets.port).close()


def stream_garbage():
    """Byte strings that no client would send, from a seed each."""
    chance = random.Random(11)
    yield b""
    yield LETTERS
    yield b"\x00" * 65536
    yield b"\xff" * 300
    yield b"\r\n" * 5000
    yield b"\x16\x03\x01" + b"\xff" * 600
    yield b"\x16\x03\x01\x00\x00" * 2000
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x05\xff" + b"\x00" * 255 + b"\x05\x01\x00\x03\xff" + b"\x00" * 300
    yield b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00"
    for size in (1, 2, 5, 17, 100, 1000, 5000, 70_000) * 4:
        yield chance.randbytes(size)
    for protocol in PROTOCOLS.values():
        opening = protocol.opening("localhost", 9)
        for _ in range(20):
            yield mutated(opening, chance)


def client_hello(certificates):
    outgoing = ssl.MemoryBIO()
    tls = tls_context(certificates.ca).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def throw(pair, garbage, ending):
    """Sends it and leaves: at once with a FIN or RST, or when the proxy closes."""
    try:
        with connect(pair, timeout=20) as stream:
            stream.sendall(garbage)
            if ending == "reset":
                reset(stream)
            elif ending == "wait":
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass
    except ConnectionError:
        pass  # thrown out before all of it was sent


@pytest.mark.parametrize("ending", ["leave", "reset", "wait"])
@pytest.mark.parametrize("listener", ["tcp", "tls"])
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_garbage_on_a_stream_listener(frontend, listener, ending, program, quiet, certificates):
    pair = program.address(f"{frontend}-{listener}").pair
    for garbage in stream_garbage():
        throw(pair, garbage, ending)
    chance = random.Random(5)
    hello = client_hello(certificates)
    for _ in range(40):
        throw(pair, mutated(hello, chance), ending)


@pytest.mark.parametrize("way_in", ["tls", "quic"])
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_garbage_within_an_encrypted_stream(frontend, way_in, program, quiet, certificates):
    bridge = Bridge(way_in, program.address(f"{frontend}-{way_in}").pair, certificates.ca)
    try:
        for ending in ("leave", "reset", "wait"):
            for garbage in stream_garbage():
                throw(bridge.pair, garbage, ending)
    finally:
        bridge.close()


def datagram_garbage(certificates):
    chance = random.Random(13)
    yield b""
    yield LETTERS[:65000]
    yield LETTERS[:1200]
    for first in range(256):
        yield bytes([first])
        yield bytes([first]) + chance.randbytes(30)
        yield bytes([first, 0, 0, 0, 1]) + chance.randbytes(1300)
    for _ in range(300):
        yield chance.randbytes(chance.randrange(1, 1500))
    for _ in range(60):
        for datagram in first_flight(certificates.ca):
            yield datagram[: chance.randrange(1, len(datagram))]
            for _ in range(10):
                yield mutated(datagram, chance)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_garbage_on_a_datagram_listener(frontend, program, quiet, certificates):
    pair = program.address(f"{frontend}-quic").pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.setblocking(False)
        for index, datagram in enumerate(datagram_garbage(certificates)):
            stream.sendto(datagram, pair)
            if index % 50 == 0:
                time.sleep(0.001)  # lets the receiver drain its socket: what the kernel drops tests nothing
            try:
                while stream.recv(65535):
                    pass
            except BlockingIOError:
                pass


def test_many_clients_that_never_finish_a_handshake(program, quiet, targets):
    """Those that hang are cut by the time-out, and are in nobody's way until then."""
    hanging = []
    for name, address in program.listening.items():
        if address.scheme == "quic":
            continue
        for _ in range(50):
            hanging.append(connect(address.pair))
            hanging[-1].sendall(b"\x05" if name.startswith("socks5") else b"C")
    open_through(SOCKS5, program.address("socks5-tcp").pair, targets.host, targets.port).close()
    for stream in hanging:
        with stream:
            try:
                while stream.recv(4096):
                    pass
            except ConnectionResetError:
                pass


def test_no_descriptors_left_is_no_end(programs, targets, key):
    """With a low limit: it runs out, stays up without a storm in its log, and works again when some are free."""
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0"}
    program = programs.run({"frontends": [front]}, open_files=64)
    proxy = program.address("front").pair
    before = program.descriptors

    def echo(name):
        with open_through(SOCKS5, proxy, targets.host, targets.port, timeout=20) as stream:
            stream.sendall(f"echo {key}/{name}\n.".encode())
            return read_exactly(stream, 1) == b"."

    assert echo("before")
    held = [connect(proxy) for _ in range(100)]
    eventually(lambda: program.descriptors >= 63, "the descriptors run out")
    time.sleep(1)  # long enough for a loop that spins to fill its log
    assert len(program.log.splitlines()) < 500
    for stream in held:
        stream.close()
    program.descriptors_return_to(before + 4)
    assert echo("after")


def test_no_descriptors_left_for_targets_is_an_answer(programs, targets):
    """The accepted half of a session leaves none for the other: clients are told so."""
    front = {"name": "front", "type": "http", "listen": "tcp://127.0.0.1:0"}
    program = programs.run({"frontends": [front]}, open_files=64)
    proxy = program.address("front").pair
    open_through(HTTP, proxy, targets.host, targets.port).close()
    opened = []
    with pytest.raises(Refused) as refusal:
        for _ in range(64):
            try:
                opened.append(open_through(HTTP, proxy, targets.host, targets.port, timeout=3))
            except TimeoutError:
                # A session holds two, and none was left to let this client in. One that asks for
                # nothing holds one, so that the next is let in and its target is not.
                opened.pop().close()
                opened.append(connect(proxy))
    assert refusal.value.code == 503
    for stream in opened:
        stream.close()
    eventually(lambda: works(HTTP, proxy, targets), "it works again")


def works(protocol, proxy, targets):
    try:
        open_through(protocol, proxy, targets.host, targets.port, timeout=3).close()
        return True
    except (Refused, OSError, EOFError):
        return False


def test_a_log_line_holds_what_a_client_sent_on_one_line(programs):
    """A name with line breaks and escape codes in it cannot forge lines or colours."""
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0"}
    program = programs.run({"frontends": [front], "log": {"level": "trace"}})
    for host in ("a\nFORGED", "a\r\n\x1b[31mFORGED", "a\x00b"):
        with pytest.raises((Refused, OSError, EOFError)):
            open_through(SOCKS5, program.address("front").pair, host, 80).close()
    assert not any(line.startswith("FORGED") for line in program.log.splitlines())
    assert "\x1b" not in program.log
