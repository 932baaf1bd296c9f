#!/usr/bin/env python3
"""Measures one event loop against two, in turns, and writes a table of ratios.

    Benchmarks/loops.py [--paths direct tls quic] [--loops 1 2] [--rounds 5] [--seconds 1.5] [--add]

A tunnel is measured twice: with both ends in one program, where one event loop has all its work, and with each end
in a program of its own, where one event loop each keep two cores busy already. README.md says how to read it.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loadtool import LoadError, Target, build
from peers import MAGICALANE, NAME, PASSWORD, Certificate, Contender, Place
from programs import raise_descriptor_limit
from report import number, row
from running import Running

RESULTS = Path(__file__).resolve().parent / "results/loops"
PATHS = {"direct": "direct", "tls": "TLS", "quic": "QUIC"}
LAYOUTS = {"one": "both ends in one program", "two": "a program for each end"}
MEASURES = {
    "download8": ("8× down MB/s", "megabytes_per_second"),
    "connections": ("sessions/s", "sessions_per_second"),
}


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class OnLoops(Contender):
    """magicalane on so many event loops; `layout` is where the ends of a tunnel run."""

    binary = MAGICALANE

    def __init__(self, path, layout, loops):
        super().__init__(path, f"{layout} on {loops}")
        self.layout, self.loops = layout, loops

    def start(self, place):
        socks = {"name": "socks", "type": "socks5", "listen": f"tcp://{place.client_host}:{place.entry_port}"}
        if self.path == "direct":
            return [self._run(place.run_client, place, "client", {"frontends": [socks]})]
        edge = {
            "name": "edge", "type": "http", "listen": f"{self.path}://{place.server}",
            "tls": {"certificate": str(place.certificate.file), "key": str(place.certificate.key)},
            "users": [{"name": NAME, "password": PASSWORD}],
        }
        far = {
            "name": "far", "type": self.path, "server": place.server, "user": NAME, "password": PASSWORD,
            "tls": {"pin_sha256": place.certificate.pin},
        }
        client = {"frontends": [{**socks, "transport": "far"}], "transports": [far]}
        if self.layout == "one":
            client["frontends"].append(edge)
            return [self._run(place.run_client, place, "both", client)]
        return [
            self._run(place.run_server, place, "server", {"frontends": [edge]}),
            self._run(place.run_client, place, "client", client),
        ]

    def _run(self, run, place, name, config):
        file = place.write(f"{name}.yaml", {"log": {"level": "warning"}, **config})
        return run([self.binary, "run", "-c", file, "--event-loops", self.loops])


def measure(path, options, folder, certificate, target, figures):
    """Measures a path in turns, so that a slow minute of the machine hits all alike; yields after each round."""
    layouts = ["one"] if path == "direct" else LAYOUTS
    contenders = [OnLoops(path, layout, loops) for layout in layouts for loops in options.loops]
    running = []
    try:
        for one in contenders:
            place = Place(folder / f"{path}-{one.layout}-{one.loops}", target, certificate)
            running.append(Running(one, place))
        for turn in range(options.rounds):
            shift = turn % len(running)
            for name in MEASURES:
                for one in running[shift:] + running[:shift]:
                    result = one.measure(name, options.seconds)
                    key = f"{path}/{one.contender.layout}/{name}"
                    figures.setdefault(key, {}).setdefault(str(one.contender.loops), []).append(
                        {"value": result[MEASURES[name][1]], "cores": result["cpu_seconds"] / options.seconds}
                    )
                    say(f"round {turn + 1}/{options.rounds} {one.contender} {name}: {result[MEASURES[name][1]]:,.0f}")
            yield
    finally:
        for one in reversed(running):
            one.close()


def markdown(run):
    few, many = run["loops"][0], run["loops"][-1]
    yield f"# {few} event loop against {many}\n"
    yield (
        f"Measured on {run['date']} on {run['cores']} cores, which the load tool and the target share; in turns, "
        f"{run['seconds']:g} s each. Each value is the median of the rounds, the ratio the median of the ratios of the "
        "rounds, with the least and the greatest. Cores is the processor time of the program or both, by the second.\n"
    )
    yield row(["path", "what", f"on {few}", "cores", f"on {many}", "cores", "ratio"])
    yield "|---|---|--:|--:|--:|--:|--:|"
    for path, title in PATHS.items():
        for layout, words in LAYOUTS.items():
            for name, (what, _) in MEASURES.items():
                figures = run["figures"].get(f"{path}/{layout}/{name}")
                if figures:
                    where = title if path == "direct" else f"{title}, {words}"
                    yield row([where, what, *compared(figures[str(few)], figures[str(many)])])


def compared(few, many):
    for all in (few, many):
        yield number(statistics.median(one["value"] for one in all))
        yield f"{statistics.median(one['cores'] for one in all):.2f}"
    ratios = [b["value"] / a["value"] for a, b in zip(few, many)]
    yield f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"


def save(run, place):
    """Writes the figures, and what is made of them; gives the Markdown."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
    text = "\n".join(markdown(run)) + "\n"
    place.with_suffix(".md").write_text(text)
    return text


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--loops", nargs=2, type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--add", action="store_true", help="add to the results that are there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write, without .md")
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build()
    raise_descriptor_limit()
    file = options.results.with_suffix(".json")
    run = json.loads(file.read_text()) if options.add and file.exists() else {"figures": {}}
    cores = len(os.sched_getaffinity(0))
    run |= {"date": time.strftime("%Y-%m-%d"), "seconds": options.seconds, "loops": options.loops, "cores": cores}
    folder = Path(tempfile.mkdtemp(prefix="magicalane-loops-"))
    try:
        with Target() as target:
            certificate = Certificate(folder)
            for path in options.paths:
                for _ in measure(path, options, folder, certificate, target.address, run["figures"]):
                    text = save(run, options.results)
    except (LoadError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise SystemExit(f"loops: {error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(text)


if __name__ == "__main__":
    main()
