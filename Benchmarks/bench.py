#!/usr/bin/env python3
"""Measures magicalane and its peers side by side, in turns, on loopback, and writes tables and a picture.

    Benchmarks/bench.py [--quick] [--paths direct tls quic] [--rounds 5] [--seconds 2] [--add]

Build the release before (`make build`), install the peers (`make bench PEERS=1`), and keep the machine quiet.
README.md says what is measured and how to read it.
"""

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loadtool import Entry, Idle, LoadError, Target, build
from peers import MAGICALANE, Certificate, Magicalane, NoProxy, Place, peers
from programs import raise_descriptor_limit, wait_until
from report import write

RESULTS = Path(__file__).resolve().parent / "results"
PATHS = ["direct", "tls", "quic"]
# Name: the load tool's subcommand, and its streams.
MEASURES = {
    "download": ("download", 1),
    "upload": ("upload", 1),
    "download8": ("download", 8),
    "echo": ("echo", 8),
    "connections": ("connections", 8),
}
# What a quick run compares with.
CHIEF_PEERS = {"sing-box", "envoy h2", "trojan", "hysteria2", "tuic cubic", "ngtcp2 alone"}
TIMEOUT = 15


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Running:
    """A contender that is up and answers; a context manager."""

    def __init__(self, contender, place):
        self.contender = contender
        self.programs = contender.start(place)
        try:
            self.entry = Entry(place.target, place.entry) if contender.speaks_socks else Entry(place.entry)
            wait_until(self._answers, TIMEOUT, "no answer")
        except BaseException as error:
            words = " / ".join(program.last_words() for program in self.programs)
            self.close()
            if isinstance(error, RuntimeError) and words:
                raise RuntimeError(f"{error}; it said: {words}") from None
            raise

    def _answers(self):
        if any(program.has_ended for program in self.programs):
            return False
        probe = getattr(self.contender, "has_answered", None)
        return probe() if probe else self.entry.run("echo", seconds=0.05, timeout=2)

    def cpu_seconds(self):
        return sum(program.cpu_seconds() for program in self.programs)

    def resident_bytes(self):
        return [program.resident_bytes() for program in self.programs]

    def measure(self, name, seconds):
        subcommand, streams = MEASURES[name]
        own = getattr(self.contender, "run", None)
        before = self.cpu_seconds()
        if own:
            result = own(name, seconds)
        else:
            result = self.entry.run(subcommand, seconds=seconds, timeout=TIMEOUT, streams=streams)
        if result is None:
            return None
        # What was on its way when the load ended is worked off, and counted.
        time.sleep(0.1)
        result["cpu_seconds"] = self.cpu_seconds() - before + result.get("client_cpu_seconds", 0)
        return result

    def close(self):
        for program in reversed(self.programs):
            program.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Results:
    """All figures of all rounds: `{"quic/tuic": {"download": [{…}, …], "memory": [{…}]}}`."""

    def __init__(self, earlier=None):
        self.figures = earlier or {}

    def add(self, contender, measure, result):
        self.figures.setdefault(repr(contender), {}).setdefault(measure, []).append(result)


class Bench:
    def __init__(self, options, folder, target, results):
        self.options, self.folder, self.target, self.results = options, folder, target, results
        self.certificate = Certificate(folder)

    def start(self, contender):
        name = f"{contender.path}-{contender.name.replace(' ', '-')}"
        return Running(contender, Place(self.folder / name, self.target.address, self.certificate))

    def speed(self, contenders):
        """All measures of all contenders in turns, so that a slow minute of the machine hits all alike."""
        with contextlib.ExitStack() as stack:
            running = []
            for contender in contenders:
                try:
                    running.append(stack.enter_context(self.start(contender)))
                except (RuntimeError, OSError) as error:
                    say(f"{contender}: does not start: {error}")
                    self.results.add(contender, "start", {"error": str(error)})
            for number in range(self.options.rounds):
                # Each round begins with another one, so that none always comes after the same.
                turn = number % max(1, len(running))
                for name in self.options.measures:
                    for one in running[turn:] + running[:turn]:
                        self._measure(one, name, f"round {number + 1}/{self.options.rounds}")

    def _measure(self, one, name, where):
        try:
            result = one.measure(name, self.options.seconds)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            result = {"error": str(error)}
        if result is None:
            return
        self.results.add(one.contender, name, result)
        figures = ", ".join(
            f"{key} {result[key]:,.4g}" if isinstance(result[key], float) else f"{key} {result[key]}"
            for key in ("megabytes_per_second", "echoes_per_second", "p50_ms", "p99_ms", "sessions_per_second",
                        "cpu_seconds", "error") if key in result
        )
        say(f"{where} {one.contender} {name}: {figures}")

    def memory(self, contender):
        """Resident memory when empty and with idle sessions, of a contender that has just started."""
        result = {"sessions": {}}
        try:
            with self.start(contender) as one, contextlib.ExitStack() as stack:
                time.sleep(0.5)
                result["sessions"][0] = one.resident_bytes()
                held = 0
                for count in self.options.idle:
                    stack.callback(Idle(one.entry, count - held, timeout=TIMEOUT).close)
                    held = count
                    time.sleep(1)
                    result["sessions"][count] = one.resident_bytes()
        except (RuntimeError, OSError) as error:
            result["error"] = str(error)
        self.results.add(contender, "memory", result)
        text = ", ".join(f"{n}: {sum(rss) / 1e6:.1f} MB" for n, rss in result["sessions"].items())
        say(f"memory {contender}: {text} {result.get('error', '')}")


def contenders(options):
    """Who takes part, and who is not installed."""
    ours = [name.partition("=")[::2] for name in options.ours] or [("magicalane", str(MAGICALANE))]
    found, missing = [NoProxy("direct", "no proxy")], []
    for path in PATHS:
        found += [Magicalane(path, name, binary or MAGICALANE, options.keys) for name, binary in ours]
    for peer in peers():
        if options.quick and peer.name not in CHIEF_PEERS:
            continue
        (found if peer.is_installed else missing).append(peer)
    wanted = lambda one: one.path in options.paths and (  # noqa: E731
        not options.only or isinstance(one, Magicalane) or any(word in one.name for word in options.only))
    return list(filter(wanted, found)), list(filter(wanted, missing))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes: the chief peers, two rounds of a second")
    parser.add_argument("--paths", nargs="+", default=PATHS, choices=PATHS)
    parser.add_argument("--measures", nargs="+", choices=[*MEASURES, "memory"])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only the peers with it in their name")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--idle", type=int, nargs="*", help="idle sessions to measure memory at, ascending")
    parser.add_argument("--ours", nargs="+", default=[], metavar="NAME=BINARY", help="builds of magicalane to compare")
    parser.add_argument("--keys", default="", help="keys of both our ends, as 'buffer: 1MiB, congestion: cubic'")
    parser.add_argument("--add", action="store_true", help="add rounds to the results that are there")
    parser.add_argument("--results", type=Path, default=RESULTS / "latest", help="where to write, without .md")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.measures = options.measures or [*MEASURES, "memory"]
    options.measures_memory = "memory" in options.measures
    options.measures = [name for name in options.measures if name != "memory"]
    if options.idle is None:
        options.idle = [1000] if options.quick else [1000, 10000]
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build()
    # A relay holds two descriptors for each session.
    most = raise_descriptor_limit() // 2 - 100
    options.idle = sorted({min(count, most) for count in options.idle})
    raw = options.results.with_suffix(".json")
    earlier = json.loads(raw.read_text()) if options.add and raw.exists() else {}
    results = Results(earlier.get("figures"))
    taking_part, missing = contenders(options)
    for one in missing:
        say(f"{one}: not installed, left out (make bench PEERS=1 installs it)")
    folder = Path(tempfile.mkdtemp(prefix="magicalane-bench-"))
    started = time.monotonic()
    try:
        with Target() as target:
            bench = Bench(options, folder, target, results)
            if options.measures:
                bench.speed(taking_part)
            if options.measures_memory:
                for contender in taking_part:
                    if contender.name not in ("no proxy", "ngtcp2 alone"):
                        bench.memory(contender)
    except LoadError as error:
        raise SystemExit(f"bench: {error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    versions = earlier.get("versions", {}) | {repr(one): one.version() for one in taking_part}
    absent = sorted((set(earlier.get("absent", [])) | {repr(one) for one in missing}) - set(versions))
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps(
        {"date": time.strftime("%Y-%m-%d"), "seconds": options.seconds, "versions": versions, "absent": absent,
         "figures": results.figures}, indent=1) + "\n")
    print(write(raw))
    say(f"took {time.monotonic() - started:.0f} s; written to {options.results}.md, .svg, .json")


if __name__ == "__main__":
    main()
