"""The targets: servers that do what the first line of a connection asks, in a process of their own.

Each connection starts with one line, `VERB KEY ARGUMENTS…`. What became of the connection is kept under
KEY, for a test to ask about over a connection of its own; so a test knows what the far end saw.

    echo KEY              sends back what comes; ends its own direction when the other ends
    source KEY SIZE SEED  sends SIZE bytes, ends its direction, reads what comes
    sink KEY              reads until the end, then answers with one line: COUNT SHA256
    reset KEY SIZE        sends SIZE bytes; resets at the first byte that comes then
    silent KEY            reads and never answers
    stall KEY             neither reads nor answers
    outcome KEY           answers with one line of JSON once the connection under KEY is over
    opened PREFIX         answers with the number of connections so far whose key starts with PREFIX
    release PREFIX        ends every connection of the verb `stall` under such keys
    sent PREFIX           answers with the number of bytes that sources under such keys have written
"""

import asyncio
import hashlib
import json
import random
import socket
import struct
import subprocess
import sys

BLOCK = 1 << 16
RESET = struct.pack("ii", 1, 0)


def blocks(size, seed):
    """`size` bytes that only `seed` decides, no two blocks of them alike."""
    base = random.Random(int(seed)).randbytes(BLOCK)
    for index in range(-(-size // BLOCK)):
        block = index.to_bytes(8, "big") + base[8:]
        yield block[: size - index * BLOCK]


def digest(size, seed):
    total = hashlib.sha256()
    for block in blocks(size, seed):
        total.update(block)
    return total.hexdigest()


class Server:
    def __init__(self):
        self.outcomes = {}
        self.keys = []
        self.seen = {}
        self.stalled = {}

    def outcome(self, key):
        return self.outcomes.setdefault(key, asyncio.get_running_loop().create_future())

    async def serve(self, reader, writer):
        try:
            line = await reader.readline()
            verb, key, *arguments = line.decode().split()
        except (ValueError, ConnectionError):
            writer.close()
            return
        if verb in ("outcome", "opened", "sent", "release"):
            await self.report(verb, key, writer)
            return
        self.keys.append(key)
        seen = {"bytes": 0, "sent": 0, "end": None, "sha256": None}
        self.seen[key] = seen
        total = hashlib.sha256()
        try:
            await getattr(self, verb)(reader, writer, seen, total, key, *arguments)
            seen["end"] = seen["end"] or "clean"
        except ConnectionError as error:
            seen["end"] = "reset"
            seen["error"] = type(error).__name__
        finally:
            seen["sha256"] = total.hexdigest()
            if not self.outcome(key).done():
                self.outcome(key).set_result(seen)
            writer.close()

    async def report(self, verb, key, writer):
        if verb == "outcome":
            answer = await self.outcome(key)
        elif verb == "release":
            stalled = [known for known in self.stalled if known.startswith(key)]
            for known in stalled:
                self.stalled.pop(known).set()
            answer = len(stalled)
        elif verb == "sent":
            answer = sum(seen["sent"] for known, seen in self.seen.items() if known.startswith(key))
        else:
            answer = sum(1 for known in self.keys if known.startswith(key))
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def read_all(self, reader, seen, total, each=None):
        while data := await reader.read(BLOCK):
            seen["bytes"] += len(data)
            total.update(data)
            if each:
                await each(data)

    async def echo(self, reader, writer, seen, total, key):
        async def back(data):
            writer.write(data)
            await writer.drain()

        await self.read_all(reader, seen, total, back)
        writer.write_eof()

    async def source(self, reader, writer, seen, total, key, size, seed):
        reading = asyncio.ensure_future(self.read_all(reader, seen, total))
        try:
            for block in blocks(int(size), int(seed)):
                writer.write(block)
                await writer.drain()
                seen["sent"] += len(block)
            writer.write_eof()
            await reading
        finally:
            reading.cancel()

    async def sink(self, reader, writer, seen, total, key):
        await self.read_all(reader, seen, total)
        writer.write(f"{seen['bytes']} {total.hexdigest()}\n".encode())
        await writer.drain()

    async def reset(self, reader, writer, seen, total, key, size):
        for block in blocks(int(size), 0):
            writer.write(block)
            await writer.drain()
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
        seen["end"] = "sent a reset"

    async def silent(self, reader, writer, seen, total, key):
        await self.read_all(reader, seen, total)

    async def stall(self, reader, writer, seen, total, key):
        writer.transport.pause_reading()
        released = self.stalled[key] = asyncio.Event()
        await released.wait()
        writer.transport.abort()


async def main():
    server = Server()
    v4 = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=2048)
    port = v4.sockets[0].getsockname()[1]
    v6 = await asyncio.start_server(server.serve, "::1", port, backlog=2048)
    print(port, flush=True)
    async with v4, v6:
        # The parent holds the other end of standard input; the process is over when the parent is.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Targets:
    """The servers as a test sees them."""

    host = "127.0.0.1"

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline())
        # Bound and never listening: the port stays ours and every connection to it is refused.
        self._refusing = socket.socket()
        self._refusing.bind((self.host, 0))
        self.refusing_port = self._refusing.getsockname()[1]
        # Listening with a full queue: the kernel drops every further SYN, as a black hole would.
        self._full = socket.socket()
        self._full.bind((self.host, 0))
        self._full.listen(0)
        self.black_hole_port = self._full.getsockname()[1]
        self._waiting = []
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex((self.host, self.black_hole_port))
            self._waiting.append(waiting)

    def ask(self, verb, key):
        with socket.create_connection((self.host, self.port), timeout=30) as control:
            control.sendall(f"{verb} {key}\n".encode())
            return json.loads(control.makefile().readline())

    def outcome(self, key):
        """How the connection under this key ended: a dictionary of bytes, sha256 and end."""
        return self.ask("outcome", key)

    def opened(self, prefix):
        return self.ask("opened", prefix)

    def close(self):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(10)
        for held in (self._refusing, self._full, *self._waiting):
            held.close()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
