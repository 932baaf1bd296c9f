"""Lets a plain TCP client reach a frontend that listens on TLS or QUIC, through stacks other than ours.

    bridge.py tls|quic HOST PORT CA

listens on a free port of 127.0.0.1, says it on standard output, and carries each connection in a TLS
session (OpenSSL) or in one stream of one QUIC connection (aioquic). It maps ends one to one: FIN is
close_notify or the stream's FIN, RST is a cut TLS session or RESET_STREAM and STOP_SENDING, both ways.

aioquic moves a few megabytes a second and tells its peer to send on before anyone has read, so bulk and
back-pressure are not tested through the QUIC bridge.
"""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from aioquic.asyncio.client import connect as quic_connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset
from targets import RESET

CHUNK = 1 << 16


def cut(writer):
    """Ends a TCP connection with RST."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


class TLSSession:
    """One TCP connection carried in a TLS session.

    asyncio's own TLS cannot half-close, so the session runs on memory BIOs.
    """

    def __init__(self, local, far, context, server_name):
        self.local_reader, self.local_writer = local
        self.far_reader, self.far_writer = far
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name)
        self.plain, self.has_ended = b"", False

    async def flush(self):
        self.far_writer.write(self.outgoing.read())
        await self.far_writer.drain()

    async def run(self):
        try:
            await self.handshake()
            await asyncio.gather(self.up(), self.down())
            self.local_writer.close()
            self.far_writer.close()
        except (OSError, ssl.SSLError, EOFError) as error:
            print(f"a TLS session broke: {error!r}", file=sys.stderr)
            cut(self.local_writer)
            cut(self.far_writer)

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                return await self.flush()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.feed()

    async def feed(self):
        data = await self.far_reader.read(CHUNK)
        self.incoming.write(data) if data else self.incoming.write_eof()

    async def up(self):
        while data := await self.local_reader.read(CHUNK):
            self.tls.write(data)
            await self.flush()
        # `unwrap` sends close_notify and then wants the other side's, which `down` will read. It must find
        # nothing at all: bytes that came already would be an error for it.
        self.decrypt()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()

    async def down(self):
        while True:
            self.decrypt()
            if self.plain:
                data, self.plain = self.plain, b""
                self.local_writer.write(data)
                await self.local_writer.drain()
            elif self.has_ended:
                return self.local_writer.write_eof()
            else:
                await self.feed()

    def decrypt(self):
        """Takes all that has come out of the session, so that nothing waits in it."""
        try:
            while data := self.tls.read(CHUNK):
                self.plain += data
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True


def tls_context(ca):
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def tls_bridge(host, port, ca):
    context = tls_context(ca)

    async def accept(reader, writer):
        try:
            far = await asyncio.open_connection(host, port, limit=CHUNK)
        except OSError:
            return cut(writer)
        await TLSSession((reader, writer), far, context, "localhost").run()

    async with await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1024) as server:
        await serve_until_told(server)


class QUICBridge(QuicConnectionProtocol):
    """The one connection; each accepted TCP connection is one of its streams."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.writers = {}
        self.half_over = set()

    async def accept(self, reader, writer):
        stream = self._quic.get_next_available_stream_id()
        # Reserves the id, before another connection takes the same.
        self._quic.send_stream_data(stream, b"")
        self.writers[stream] = writer
        try:
            while data := await reader.read(CHUNK):
                self._quic.send_stream_data(stream, data)
                self.transmit()
                await self.wait_for_room(stream)
            self._quic.send_stream_data(stream, b"", end_stream=True)
            self.end_one_direction(stream)
        except ConnectionError:
            self.abandon(stream)
        self.transmit()

    async def wait_for_room(self, stream):
        """aioquic keeps what it cannot send yet without a limit; this keeps it to a megabyte."""
        while stream in self._quic._streams and stream in self.writers:
            sender = self._quic._streams[stream].sender
            if len(sender._buffer) < 1 << 20:
                return
            await asyncio.sleep(0.005)

    def end_one_direction(self, stream):
        """Closes the socket with its second direction."""
        if stream in self.half_over and stream in self.writers:
            self.writers.pop(stream).close()
        self.half_over.add(stream)

    def abandon(self, stream):
        self.writers.pop(stream, None)
        for end in (self._quic.reset_stream, self._quic.stop_stream):
            with contextlib.suppress(Exception):  # that direction is over already
                end(stream, 1)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            print(f"the connection ended: {event}", file=sys.stderr)
            for writer in self.writers.values():
                cut(writer)
            self.writers.clear()
            return
        writer = self.writers.get(getattr(event, "stream_id", None))
        if writer is None:
            return
        if isinstance(event, StreamDataReceived):
            if event.data:
                writer.write(event.data)
            if event.end_stream:
                with contextlib.suppress(OSError):  # the client is gone
                    writer.write_eof()
                self.end_one_direction(event.stream_id)
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            self.writers.pop(event.stream_id)
            cut(writer)


def quic_configuration(ca, **options):
    usual = {"alpn_protocols": ["magicalane/1"], "max_stream_data": 1 << 22, "max_data": 1 << 24}
    configuration = QuicConfiguration(server_name="localhost", **{**usual, **options})
    configuration.load_verify_locations(str(ca))
    return configuration


async def quic_bridge(host, port, ca):
    configuration = quic_configuration(ca, idle_timeout=600.0)
    async with quic_connect(
        host, port, configuration=configuration, create_protocol=QUICBridge
    ) as connection:
        async with await asyncio.start_server(connection.accept, "127.0.0.1", 0, backlog=1024) as server:
            await serve_until_told(server)


async def serve_until_told(server):
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Bridge:
    """A bridge in a process of its own, as a test sees it."""

    def __init__(self, kind, pair, ca):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__), kind, pair[0], str(pair[1]), str(ca)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        port = self.process.stdout.readline()
        assert port, f"no {kind} connection to {pair}"
        self.pair = ("127.0.0.1", int(port))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(5)


if __name__ == "__main__":
    kind, host, port, ca = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"tls": tls_bridge, "quic": quic_bridge}[kind](host, int(port), ca))
