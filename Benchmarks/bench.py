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

from loadtool import Idle, LoadError, Target, build
from peers import MAGICALANE, Certificate, Magicalane, NoProxy, Place, peers
from programs import raise_descriptor_limit
from report import write
from running import IDLE_TIMEOUT, MEASURES, Running

RESULTS = Path(__file__).resolve().parent / "results"
PATHS = ["direct", "tls", "quic"]
# What a quick run compares with.
CHIEF_PEERS = {"sing-box", "envoy h2", "trojan", "hysteria2", "tuic cubic", "ngtcp2 alone"}


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Results:
    """All figures of all rounds, kept in a file: `{"quic/tuic": {"download": [{…}, …], "memory": [{…}]}}`."""

    def __init__(self, options):
        self.file = options.results.with_suffix(".json")
        is_continued = options.add and self.file.exists()
        self._run = json.loads(self.file.read_text()) if is_continued else {"versions": {}, "absent": []}
        self._run |= {"date": time.strftime("%Y-%m-%d"), "seconds": options.seconds}
        self._figures = self._run.setdefault("figures", {})
        rounds = [one["round"] for measures in self._figures.values() for all in measures.values() for one in all]
        # Of the first round of this run: rounds of one number were measured side by side.
        self.first_round = max(rounds, default=0) + 1

    def name(self, taking_part, missing):
        self._run["versions"] |= {repr(one): one.version() for one in taking_part}
        absent = {*self._run["absent"], *map(repr, missing)} - set(self._run["versions"])
        self._run["absent"] = sorted(absent)

    def add(self, contender, measure, number, result):
        result["round"] = self.first_round + number
        self._figures.setdefault(repr(contender), {}).setdefault(measure, []).append(result)

    def save(self):
        """Writes them, and what is made of them; gives the Markdown."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self._run, indent=1) + "\n")
        return write(self.file)


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
                    self.results.add(contender, "start", 0, {"error": str(error)})
            for number in range(self.options.rounds):
                # Each round begins with another one, so that none always comes after the same.
                turn = number % max(1, len(running))
                for name in self.options.measures:
                    for one in running[turn:] + running[:turn]:
                        self._measure(one, name, number)
                self.results.save()

    def _measure(self, one, name, number):
        try:
            result = one.measure(name, self.options.seconds)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            result = {"error": str(error)}
        if result is None:
            return
        self.results.add(one.contender, name, number, result)
        figures = ", ".join(
            f"{key} {result[key]:,.4g}" if isinstance(result[key], float) else f"{key} {result[key]}"
            for key in ("megabytes_per_second", "echoes_per_second", "p50_ms", "p99_ms", "sessions_per_second",
                        "cpu_seconds", "error") if key in result
        )
        say(f"round {number + 1}/{self.options.rounds} {one.contender} {name}: {figures}")

    def memory(self, contender):
        """Resident memory when empty and with idle sessions, of a contender that has just started."""
        result = {"sessions": {}}
        try:
            with self.start(contender) as one, contextlib.ExitStack() as stack:
                time.sleep(0.5)
                result["sessions"][0] = one.resident_bytes()
                held = 0
                for count in self.options.idle:
                    stack.callback(Idle(one.entry, count - held, timeout=IDLE_TIMEOUT).close)
                    held = count
                    time.sleep(1)
                    result["sessions"][count] = one.resident_bytes()
        except (RuntimeError, OSError) as error:
            result["error"] = str(error)
        self.results.add(contender, "memory", 0, result)
        self.results.save()
        text = ", ".join(f"{n}: {sum(rss) / 1e6:.1f} MB" for n, rss in result["sessions"].items())
        say(f"memory {contender}: {text} {result.get('error', '')}")


def contenders(options):
    """Who takes part, and who is not installed."""
    builds = [text.partition("=")[::2] for text in options.ours]
    ours = [(f"magicalane {name}", binary) for name, binary in builds] or [("magicalane", MAGICALANE)]
    found, missing = [] if options.quick else [NoProxy("direct", "no proxy")], []
    for path in PATHS:
        found += [Magicalane(path, name, binary, options.keys) for name, binary in ours]
    for peer in peers():
        if options.quick and peer.name not in CHIEF_PEERS:
            continue
        (found if peer.is_installed else missing).append(peer)
    wanted = lambda one: one.path in options.paths and (  # noqa: E731
        not options.only or isinstance(one, Magicalane) or any(word in one.name for word in options.only))
    return list(filter(wanted, found)), list(filter(wanted, missing))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes: the chief peers, two short rounds")
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
    options.seconds = options.seconds or (0.7 if options.quick else 2)
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
    results = Results(options)
    taking_part, missing = contenders(options)
    for one in missing:
        say(f"{one}: not installed, left out (make bench PEERS=1 installs it)")
    results.name(taking_part, missing)
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
    print(results.save())
    say(f"took {time.monotonic() - started:.0f} s; written to {options.results}.md, .svg, .json")


if __name__ == "__main__":
    main()
