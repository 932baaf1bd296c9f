"""A hundred changes under load: what stays is not touched, what is replaced ends in its own time."""

import asyncio
import contextlib
import hashlib
import threading
import time

import pytest
from admin import administered, free_port, front
from chain import exit_frontend, tunnel
from clients import SOCKS5, many, open_through, read_exactly
from program import eventually
from quic import client
from targets import digest

MiB = 1 << 20
LIMITS = {"drain_timeout": "10m", "buffer": "256KiB"}
# Lets the allocator give back what is free, so that what stays resident is in use.
TRIM = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "16384"}


class Downloads:
    """Many downloads of which one thread reads a piece at a time, until it is told to hurry."""

    def __init__(self, streams, key, size):
        self.streams, self.size = streams, size
        self.totals = [hashlib.sha256() for _ in streams]
        self.counts = [0] * len(streams)
        self.errors = []
        self.is_hurrying = threading.Event()
        for index, stream in enumerate(streams):
            stream.sendall(f"source {key}/{index} {size} {index % 10}\n".encode())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        waiting = set(range(len(self.streams)))
        while waiting:
            for index in list(waiting):
                try:
                    data = self.streams[index].recv(65536 if self.is_hurrying.is_set() else 1024)
                except OSError as error:
                    self.errors.append(f"{index} after {self.counts[index]} bytes: {error!r}")
                    waiting.discard(index)
                    continue
                self.totals[index].update(data)
                self.counts[index] += len(data)
                if not data:
                    waiting.discard(index)
            # One piece of each, now and then: they last as long as the changes do.
            self.is_hurrying.wait(0.05)

    def finish(self):
        """Reads the rest; all bytes of all must be there."""
        assert self.thread.is_alive() and all(count < self.size for count in self.counts), (
            "they were over too soon"
        )
        self.is_hurrying.set()
        self.thread.join(300)
        assert not self.errors, self.errors[:10]
        digests = [digest(self.size, seed) for seed in range(10)]
        for index, total in enumerate(self.totals):
            assert self.counts[index] == self.size, f"{index} has {self.counts[index]} bytes"
            assert total.hexdigest() == digests[index % 10]


class Changes:
    """A config with parts that stay, and changes of the others."""

    def __init__(self, api, certificates, taken):
        self.api, self.certificates, self.taken = api, certificates, taken
        self.base, _ = api.config()
        self.count = 0

    def bad_entry(self):
        return [
            front("bad", self.taken),
            front("bad", type="nothing"),
            {
                **front("bad"),
                "listen": "tls://127.0.0.1:0",
                "tls": {"certificate": "nowhere", "key": "nowhere"},
            },
            front("bad", transport="nowhere"),
        ][self.count % 4]

    def next(self):
        """One more: entries added, changed and removed; every third is invalid."""
        self.count += 1
        number = self.count
        config = {
            **self.base,
            "frontends": list(self.base["frontends"]),
            "transports": list(self.base["transports"]),
        }
        for entry in ("frontends", "transports"):
            config[entry] = [
                {**one, "buffer": f"{128 + number}KiB"} if one["name"].startswith("changed") else one
                for one in config[entry]
            ]
        if number % 2:
            config["frontends"].append(front(f"added-{number}", transport="added"))
            config["transports"].append({"name": "added", "type": "tcp", "connect_timeout": f"{number}s"})
        if number % 5 == 0:
            config["frontends"] = [one for one in config["frontends"] if one["name"] != "removed"]
        if number % 3 == 0:
            config["frontends"].append(self.bad_entry())
        _, tag = self.api.config()
        answer = self.api.put("/v1/config", config, tag=tag)
        if number % 3 == 0:
            assert answer.status in (409, 422), answer
            assert self.api.config()[1] == tag
        else:
            assert answer.status == 200, answer
            assert "changed" in answer.json["changes"]["frontends"]["changed"], answer


@pytest.fixture
def taken():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as stream:
        yield stream.getsockname()[1]


def many_changes_under_downloads(programs, certificates, targets, key, taken, count, changes, size):
    far = programs.run({"frontends": [exit_frontend("quic", certificates)], "limits": LIMITS})
    fronts = [
        front("stays"),
        front("tunnelled", transport="tunnel"),
        front("changed", free_port()),
        front("removed"),
        front("led", transport="changed-too"),
    ]
    carried = [
        tunnel("quic", far.address("exit"), certificates),
        {"name": "changed-too", "type": "tcp"},
    ]
    config = {"frontends": fronts, "transports": carried, "limits": LIMITS}
    program, api = administered(programs, config, env=TRIM)
    names = [entry["name"] for entry in fronts]
    pairs = []

    def pair(index):
        # Most go through what stays; some through what is changed and removed, which drains.
        return pairs[index % 2] if index % 10 else pairs[2 + index // 10 % 3]

    def round(label, count, changes, size):
        change = Changes(api, certificates, taken)
        with many(
            count, lambda index: open_through(SOCKS5, pair(index), targets.host, targets.port)
        ) as streams:
            downloads = Downloads(streams, f"{key}/{label}", size)
            for _ in range(changes):
                change.next()
            downloads.finish()
            assert targets.opened(f"{key}/{label}/") == count
        # As it was, for the next round.
        assert api.put("/v1/config", change.base, tag="*").status == 200
        eventually(lambda: api.entry("/v1/sessions")["total"] == 0, "all sessions are over")
        eventually(lambda: api.entry("/v1/status")["retiring"] == 0, "all that was replaced is gone")
        return program.resident, program.descriptors

    def once_more(label, changes):
        # Those that listen on any port may have got another one.
        pairs[:] = [pair_of(api.status_of(f"/v1/frontends/{name}")["listen"]) for name in names]
        return round(label, count, changes, size)

    # What a process keeps once it has done it all: code that was touched, the history of configs and events.
    for index in range(3):
        once_more(f"warm-{index}", 16)
    before, descriptors = once_more("before", 16)
    after, descriptors_after = once_more("after", changes)
    assert after <= before * 1.1, f"{before >> 10} KiB before and {after >> 10} KiB after"
    assert descriptors_after <= descriptors + 8


def pair_of(listen):
    host, port = listen.split("://")[1].rsplit(":", 1)
    return host, int(port)


@pytest.mark.timeout(300)
def test_downloads_through_many_changes(programs, certificates, targets, key, taken):
    many_changes_under_downloads(programs, certificates, targets, key, taken, 120, 40, MiB)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_downloads_through_a_hundred_changes(programs, certificates, targets, key, taken):
    many_changes_under_downloads(programs, certificates, targets, key, taken, 1000, 100, 2 * MiB)


class Loop:
    """Opens a new session every millisecond, as far as one thread can, and checks that it carries a byte."""

    def __init__(self, pair, targets, key):
        self.pair, self.targets, self.key = pair, targets, key
        self.count, self.errors = 0, []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.is_over.is_set():
            try:
                with open_through(SOCKS5, self.pair, self.targets.host, self.targets.port) as stream:
                    stream.sendall(f"echo {self.key}\n.".encode())
                    assert read_exactly(stream, 1) == b"."
                self.count += 1
            except Exception as error:  # noqa: BLE001
                self.errors.append(f"session {self.count}: {error!r}")
            time.sleep(0.001)

    def finish(self):
        self.is_over.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.count, self.errors


SERVERS = {"tcp": "tcp", "tls": "tls", "quic": "quic"}


def server(scheme, name, port, certificates):
    entry = exit_frontend(scheme, certificates, name=name)
    return {**entry, "listen": f"{scheme}://127.0.0.1:{port}"}


@contextlib.contextmanager
def loops(programs, certificates, targets, key, scheme):
    """A far end with a frontend that stays and one that changes, and a loop of sessions through each."""
    import socket

    kind = socket.SOCK_DGRAM if scheme == "quic" else socket.SOCK_STREAM
    ports = {"stays": free_port(kind), "changed": free_port(kind)}
    fronts = [server(scheme, name, port, certificates) for name, port in ports.items()]
    far, api = administered(programs, {"frontends": fronts, "transports": [], "limits": LIMITS})
    near = programs.run(
        {
            "frontends": [front(name, transport=name) for name in ports],
            "transports": [tunnel(scheme, far.address(name), certificates, name=name) for name in ports],
        }
    )
    running = {name: Loop(near.address(name).pair, targets, f"{key}/{name}") for name in ports}
    try:
        for name, loop in running.items():
            eventually(lambda: loop.count >= 5, f"sessions through {name}")
        yield api, running
    finally:
        for loop in running.values():
            loop.is_over.set()
    for name, loop in running.items():
        count, errors = loop.finish()
        assert not errors, f"{len(errors)} of {count} sessions through {name} failed: {errors[:5]}"


@pytest.mark.parametrize("scheme", SERVERS)
def test_no_session_is_refused_while_its_frontend_stays_or_changes(
    scheme, programs, certificates, targets, key, taken
):
    with loops(programs, certificates, targets, key, scheme) as (api, running):
        changes = Changes(api, certificates, taken)
        for _ in range(30):
            before = {name: loop.count for name, loop in running.items()}
            changes.next()
            for name, loop in running.items():
                eventually(
                    lambda: loop.count > before[name] + 1 or loop.errors, f"sessions through {name} go on"
                )


@pytest.mark.parametrize("scheme", ["tcp", "tls", "quic"])
def test_no_session_is_refused_while_its_transport_changes(programs, certificates, targets, key, scheme):
    """The near end's transport is replaced under a loop of new sessions."""
    far = programs.run({"frontends": [exit_frontend(scheme, certificates)], "limits": LIMITS})
    config = {
        "frontends": [front(port=free_port(), transport="tunnel")],
        "transports": [tunnel(scheme, far.address("exit"), certificates)],
        "limits": LIMITS,
    }
    near, api = administered(programs, config)
    loop = Loop(near.address("front").pair, targets, key)
    for index in range(20):
        before = loop.count
        tag = api.get("/v1/transports/tunnel").tag
        assert api.patch("/v1/transports/tunnel", {"connect_timeout": f"{index + 5}s"}, tag=tag).status == 200
        eventually(lambda: loop.count > before + 1 or loop.errors, "sessions go on")
    count, errors = loop.finish()
    assert not errors, f"{len(errors)} of {count}: {errors[:5]}"


@pytest.mark.parametrize("name", ["stays", "changed"])
def test_a_quic_connection_lives_on(programs, certificates, targets, key, name):
    """Its streams run through a change of another listener, and of its own; one that stays takes new ones."""
    fronts = [
        {**server("quic", which, 0, certificates), "listen": f"quic://127.0.0.1:{port}"}
        for which, port in (("stays", 0), ("changed", free_port()))
    ]
    for entry in fronts:
        del entry["users"]
    program, api = administered(programs, {"frontends": fronts, "limits": LIMITS})
    pair = program.address(name).pair

    async def test():
        loop = asyncio.get_running_loop()
        async with client(pair, certificates.ca) as connection:
            reader, writer, head = await connection.open(targets.host, targets.port)
            assert head.startswith(b"HTTP/1.1 200 "), head
            writer.write(f"echo {key}\n".encode())
            for index in range(5):
                tag = api.get("/v1/frontends/changed").tag
                patch = {"buffer": f"{128 + index}KiB"}
                answer = await loop.run_in_executor(
                    None, lambda: api.patch("/v1/frontends/changed", patch, tag=tag)
                )
                assert answer.status == 200, answer
                writer.write(bytes([index]) * 3000)
                assert await reader.readexactly(3000) == bytes([index]) * 3000
                if name == "stays":
                    await connection.echo(targets.host, targets.port, f"{key}/{index}")
            assert connection.ended is None
            writer.write_eof()
            assert await reader.read() == b""
        # And a new connection comes to what runs now.
        async with client(pair, certificates.ca) as connection:
            await connection.echo(targets.host, targets.port, f"{key}/new")

    asyncio.run(asyncio.wait_for(test(), 60))
