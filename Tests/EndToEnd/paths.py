"""An adaptive tunnel over an emulated link: sessions run through it while the link gets worse and better.

Each scenario has a link with two network namespaces, two programs and a load of its own, so that all of them run
at the same time. What happened is kept as an `Outcome` that tests ask afterwards.
"""

import contextlib
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from admin import Admin
from chain import exit_frontend, tunnel
from clients import SOCKS5, Refused, read_exactly
from program import REPOSITORY, Programs

sys.path.insert(0, str(REPOSITORY / "Benchmarks/link"))

from link import Link, build  # noqa: E402

# The names in the client's config.
ADAPTIVE, QUIC, TLS = "far", "far-quic", "far-tls"
# Each scenario has networks of its own, so that all use the same ports.
SERVER_PORT, CLIENT = 4433, ("127.0.0.1", 1080)

# How long a session may wait for a byte: longer than any time-out of the programs, so that they speak first.
PATIENCE = 45
# A good path: what a scenario adds to it is all that is wrong.
RATE, QUEUE = "20mbit", "200kB"

SHORT_EVERY, LONG_PAUSE, DOWNLOAD_EVERY = 0.25, 0.1, 5.0
MOST_LONG = 3
DOWNLOAD = 300_000
ECHO = 64


# What the client saw of the members, in its directory.
TRACE = "trace"


@dataclass(frozen=True)
class Phase:
    """A time in which the link keeps its rules."""

    seconds: float
    # Rules of the link; what is not named is as on a good path.
    rules: dict = field(default_factory=dict)
    # The member that new sessions take in the end; None where either will do.
    chosen: str | None = None
    # By when, in seconds from the start of the phase.
    within: float = 15


@dataclass(frozen=True)
class Scenario:
    phases: list
    # Keys of the adaptive transport.
    keys: dict = field(default_factory=dict)
    round_trip: float = 0.04
    has_load: bool = True
    # False: nothing listens on the server's UDP port, and its kernel says so by ICMP.
    has_udp: bool = True
    # From when on a member is dead, by the number of the phase: sessions that live on it die with it.
    dies_in: int | None = None
    most_switches: int = 1
    seed: int = 1


@dataclass
class Session:
    """What became of one session; times are in seconds since the start of the scenario."""

    kind: str
    started: float
    opened: float | None = None
    answered: float | None = None
    ended: float | None = None
    error: str | None = None


class Load:
    """Short echoes, some a second; a few long ones, one from the start of each phase; a download now and then."""

    def __init__(self, link, target):
        self.link, self.target = link, target
        self.began = time.monotonic()
        self.sessions = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(256)

    def now(self):
        return time.monotonic() - self.began

    def start(self):
        self._pool.submit(self._submit_regularly, SHORT_EVERY, self.echo)
        self._pool.submit(self._submit_regularly, DOWNLOAD_EVERY, self.download)

    def _submit_regularly(self, pause, session):
        while not self._over.wait(pause):
            session()

    def finish(self):
        """No session starts any more; those that run come to their end."""
        self._over.set()
        time.sleep(2 * SHORT_EVERY)
        self._pool.shutdown()

    def echo(self):
        self._pool.submit(self._carry, "echo", self._echo_once)

    def download(self):
        self._pool.submit(self._carry, "download", self._receive_all)

    def hold(self):
        """A session that echoes until the load is over."""
        self._pool.submit(self._carry, "long", self._echo_on)

    def _carry(self, kind, work):
        session = Session(kind, self.now())
        self.sessions.append(session)
        try:
            with self.link.left.connect(CLIENT, PATIENCE) as stream:
                SOCKS5.open_over(stream, *self.target)
                session.opened = self.now()
                work(stream, session)
        except (OSError, EOFError, Refused) as error:
            session.error = f"{type(error).__name__}: {error}"
        session.ended = self.now()

    def _echo_once(self, stream, session):
        stream.sendall(b"E" * ECHO)
        read_exactly(stream, ECHO)
        session.answered = session.answered or self.now()

    def _echo_on(self, stream, session):
        while not self._over.wait(LONG_PAUSE):
            self._echo_once(stream, session)

    def _receive_all(self, stream, session):
        stream.sendall(b"D")
        read_exactly(stream, 1)
        session.answered = self.now()
        read_exactly(stream, DOWNLOAD - 1)


def answer(stream):
    """The target: its first byte says whether it echoes or sends."""
    data = stream.recv(ECHO)
    if data == b"D":
        stream.sendall(bytes(DOWNLOAD))
        return
    while data:
        stream.sendall(data)
        data = stream.recv(ECHO)


class Paths:
    """The one place that knows how the API tells what is chosen, and why."""

    def __init__(self, socket):
        self.admin = Admin(socket)

    def members(self):
        """What is known of each member, by its name."""
        found = self.admin.get(f"/v1/transports/{ADAPTIVE}/paths").json["paths"]
        return {member["member"]: member for member in found}

    def chosen(self):
        [chosen] = [name for name, member in self.members().items() if member["chosen"]]
        return chosen

    def decisions(self):
        """Oldest first."""
        found = self.admin.get(f"/v1/transports/{ADAPTIVE}/decisions?limit=256").json["decisions"]
        return sorted(found, key=lambda decision: decision["id"])


class Watch:
    """Notes twice a second which member is chosen."""

    PAUSE = 0.5

    def __init__(self, paths, now):
        self.paths, self.now = paths, now
        self.choices = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._watching = self._pool.submit(self._watch)

    def _watch(self):
        while not self._over.is_set():
            self.choices.append((self.now(), self.paths.chosen()))
            self._over.wait(self.PAUSE)

    def finish(self):
        self._over.set()
        self._pool.shutdown()
        self._watching.result()


@dataclass
class Outcome:
    """What happened in a scenario."""

    scenario: Scenario
    # Of the programs, with their logs.
    directory: Path
    # When each phase began, and when the last one ended.
    marks: list
    # Bytes that the link had carried by then, both ways.
    carried: list
    sessions: list
    choices: list
    members: dict
    decisions: list

    def settled(self, number):
        """Seconds from the start of a phase until the right member was chosen, for the rest of it."""
        start, end = self.marks[number : number + 2]
        phase = self.scenario.phases[number]
        seen = [(at - start, member) for at, member in self.choices if start <= at < end]
        assert len(seen) > phase.seconds / 2, f"seen only {len(seen)} times"
        assert seen[-1][1] == phase.chosen, f"{seen[-1][1]} is chosen at the end of phase {number}\n{self}"
        return max((at + Watch.PAUSE for at, member in seen if member != phase.chosen), default=0)

    @property
    def switches(self):
        return [one for one in self.decisions if one.get("previous") not in (None, one["chosen"])]

    @property
    def failed(self):
        """Sessions that failed and need not have: those whose member died under them had to."""
        dead = None if self.scenario.dies_in is None else self.marks[self.scenario.dies_in]

        def was_doomed(session):
            # What the link carried at that moment still arrives.
            return dead is not None and session.answered and session.answered < dead + 0.5

        return [session for session in self.sessions if session.error and not was_doomed(session)]

    def __str__(self):
        """For the report on a failed test."""
        lines = [f"logs: {self.directory}", f"phases at {[round(mark, 1) for mark in self.marks]}"]
        lines += map(json.dumps, self.members.values())
        lines += [
            f"decision {one['id']}: {one['time']} {one.get('previous')} -> {one['chosen']}, {one['diagnosis']}:"
            f" {one['reason']}"
            for one in self.decisions
        ]
        changes = [now for before, now in zip([(0, None), *self.choices], self.choices) if before[1] != now[1]]
        lines += [f"{at:6.1f} s: {member} is chosen" for at, member in changes]
        return "\n".join(lines)


@contextlib.contextmanager
def programs_at(link, scenario, directory, certificates, through):
    """The server at the right end and the client at the left one; gives the path of the client's admin socket."""
    programs = Programs(directory)
    socket = Path(directory) / "admin"
    address = link.right.address
    listeners = {"tls": TLS, **({"quic": QUIC} if scenario.has_udp else {})}
    fronts = [
        {
            **exit_frontend(transport, certificates, allow_local_targets=True),
            "name": name,
            "listen": f"{transport}://{address}:{SERVER_PORT}",
        }
        for transport, name in listeners.items()
    ]
    entry = {"name": "socks", "type": "socks5", "listen": "tcp://%s:%d" % CLIENT, "transport": through}
    server = Server(address, SERVER_PORT)
    transports = [
        {**tunnel(transport, server, certificates), "name": name}
        for transport, name in (("quic", QUIC), ("tls", TLS))
    ]
    if through == ADAPTIVE:
        adaptive = {"name": ADAPTIVE, "type": "adaptive", "members": [QUIC, TLS], "trace": {"file": TRACE}}
        transports.append({**adaptive, **scenario.keys})
    client = {"admin": {"listen": f"unix:{socket}"}, "frontends": [entry], "transports": transports}
    try:
        programs.run({"frontends": fronts}, prefix=link.right.prefix)
        programs.run(client, prefix=link.left.prefix)
        yield str(socket)
    finally:
        programs.stop()


@dataclass
class Server:
    """As `tunnel` takes it."""

    host: str
    port: int


def run(scenario, directory, certificates, through=ADAPTIVE):
    """Runs a scenario from its start to its end; through one member alone where `through` names it."""
    delay = f"{scenario.round_trip * 500:g}ms"
    with Link(rate=RATE, delay=delay, queue=QUEUE, seed=scenario.seed, **scenario.phases[0].rules) as link:
        # What most hosts use, whatever this one does.
        link.use_congestion_control("cubic")
        target = link.right.serve(answer)
        carried = lambda stats: stats["up"]["bytes"] + stats["down"]["bytes"]  # noqa: E731
        with programs_at(link, scenario, directory, certificates, through) as socket:
            load, watch = Load(link, target), None
            load.echo()
            if through == ADAPTIVE:
                watch = Watch(Paths(socket), load.now)
            if scenario.has_load:
                load.start()
            marks, bytes_carried = [], []
            for phase in scenario.phases:
                link.set(**{"loss": 0, **phase.rules})
                marks.append(load.now())
                bytes_carried.append(carried(link.stats()))
                if scenario.has_load and len(marks) <= MOST_LONG:
                    load.hold()
                time.sleep(phase.seconds)
            marks.append(load.now())
            bytes_carried.append(carried(link.stats()))
            members, decisions = {}, []
            if watch:
                watch.finish()
                members, decisions = watch.paths.members(), watch.paths.decisions()
            # What only loses need not keep the last sessions from their end; what is dead stays dead.
            link.set(**{"loss": 0, **{name: loss for name, loss in phase.rules.items() if loss == 100}})
            load.finish()
        choices = watch.choices if watch else []
        return Outcome(
            scenario, directory, marks, bytes_carried, load.sessions, choices, members, decisions
        )


def run_all(scenarios, directory, certificates, through=ADAPTIVE):
    """Runs all scenarios at once; gives futures of their outcomes by name. `through` may say it for each."""
    try:
        build()
        Link().close()
    except (OSError, RuntimeError) as error:
        pytest.fail(f"needs to make network namespaces (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN): {error}")
    with ThreadPoolExecutor(len(scenarios)) as pool:
        outcomes = {}
        for name, scenario in scenarios.items():
            folder = Path(directory) / name.replace(" ", "-")
            folder.mkdir()
            member = through[name] if isinstance(through, dict) else through
            outcomes[name] = pool.submit(run, scenario, folder, certificates, member)
    return outcomes
