"""aioquic as a client of the QUIC listener, and a UDP link between two ends that tests can bend."""

import asyncio
import contextlib
import random
import socket
import threading

from aioquic.asyncio.client import connect as quic_connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StopSendingReceived, StreamReset
from bridge import quic_configuration
from clients import HTTP


class Client(QuicConnectionProtocol):
    """A connection that keeps the events that tests ask about."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.handshake = self.ended = None
        self.resets = {}

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, ConnectionTerminated):
            self.ended = event
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
            reader = self._stream_readers[event.stream_id]
            if not reader.at_eof():
                reader.set_exception(ConnectionResetError())
        elif isinstance(event, StopSendingReceived):
            self.resets.setdefault(event.stream_id, event.error_code)
        super().quic_event_received(event)

    async def open(self, host, port, credentials=None):
        """A stream to the target, through CONNECT; gives its reader, its writer and the answer's head."""
        reader, writer = await self.create_stream()
        writer.write(HTTP.opening(host, port, credentials))
        head = await reader.readuntil(b"\r\n\r\n")
        return reader, writer, head

    async def echo(self, host, port, key, rounds=3):
        """One session with some bytes there and back."""
        reader, writer, head = await self.open(host, port)
        assert head.startswith(b"HTTP/1.1 200 "), head
        writer.write(f"echo {key}\n".encode())
        for index in range(rounds):
            writer.write(bytes([index]) * 2000)
            assert await reader.readexactly(2000) == bytes([index]) * 2000
        writer.write_eof()
        assert await reader.read() == b""

    async def move_to_a_new_port(self):
        """What a NAT does that forgot us: the same connection comes from another address."""
        loop = asyncio.get_running_loop()
        old = self._transport
        await loop.create_datagram_endpoint(lambda: self, local_addr=("::", 0), family=socket.AF_INET6)
        old.abort()

    def connection_lost(self, error):
        pass  # of the socket that was left behind


@contextlib.asynccontextmanager
async def client(pair, ca, session_ticket_handler=None, token_handler=None, wait=True, **options):
    configuration = quic_configuration(ca, **options)
    async with quic_connect(
        *pair,
        configuration=configuration,
        create_protocol=Client,
        session_ticket_handler=session_ticket_handler,
        token_handler=token_handler,
        wait_connected=wait,
    ) as connection:
        yield connection


def first_flight(ca):
    """The datagrams by which aioquic would begin a connection, with a new random connection ID each time."""
    connection = QuicConnection(configuration=quic_configuration(ca))
    connection.connect(("127.0.0.1", 4433), now=0.0)
    return [datagram for datagram, _ in connection.datagrams_to_send(now=0.0)]


def mutated(datagram, chance):
    """The datagram cut, with bits flipped, with bytes doubled, or all at once."""
    data = bytearray(datagram)
    for _ in range(chance.choice((0, 1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.3:
        del data[chance.randrange(1, len(data)) :]
    if chance.random() < 0.1:
        data += data[: chance.randrange(len(data))]
    return bytes(data[:65000])


class Link:
    """A UDP relay in front of `pair`: each client behind it comes to the server from a port of the relay's.

    `bend(datagram, upward)` gives the datagrams to pass on in place of this one.
    """

    def __init__(self, pair, bend=None):
        self.pair, self.bend = pair, bend or (lambda datagram, upward: [datagram])
        self.front = self._socket()
        self.address = self.front.getsockname()
        self.backs = {}
        self.is_open = True
        self._lock = threading.Lock()
        threading.Thread(target=self._upward, daemon=True).start()

    @staticmethod
    def _socket():
        new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            new.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        new.bind(("127.0.0.1", 0))
        new.settimeout(0.2)
        return new

    def rebind(self):
        """The server sees each client come from a new port from now on, and cannot reach it at the old one."""
        with self._lock:
            self.backs = {}

    def _upward(self):
        while self.is_open:
            try:
                datagram, client = self.front.recvfrom(65535)
            except TimeoutError:
                continue
            with self._lock:
                back = self.backs.get(client)
                if back is None:
                    back = self.backs[client] = self._socket()
                    threading.Thread(target=self._downward, args=(client, back), daemon=True).start()
                with contextlib.suppress(OSError):  # closed meanwhile
                    for changed in self.bend(datagram, True):
                        back.sendto(changed, self.pair)
        self.front.close()

    def _downward(self, client, back):
        while self.is_open and self.backs.get(client) is back:
            try:
                datagram = back.recv(65535)
            except TimeoutError:
                continue
            except ConnectionError:  # the server is gone
                continue
            with self._lock, contextlib.suppress(OSError):  # closed meanwhile
                for changed in self.bend(datagram, False):
                    self.front.sendto(changed, client)
        back.close()

    def close(self):
        self.is_open = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def bad_path(seed, damaged=0.02, lost=0.02, doubled=0.02, swapped=0.02):
    """A `bend` that damages, drops, doubles and reorders datagrams, each with its own share of them."""
    chance = random.Random(seed)
    held = {True: [], False: []}

    def bend(datagram, upward):
        draw = chance.random()
        if draw < damaged:
            return [mutated(datagram, chance)]
        draw -= damaged
        if draw < lost:
            return []
        draw -= lost
        if draw < doubled:
            return [datagram, datagram]
        draw -= doubled
        if draw < swapped:
            held[upward].append(datagram)
            return []
        waiting, held[upward] = held[upward], []
        return [datagram, *waiting]

    return bend
