#!/usr/bin/env python3
"""Measures QUIC and TLS tunnels, ours and others', over links of many rates, round trips and losses.

    sudo Benchmarks/grid.py [--cells '100/40/*' 30/200/1] [--seconds 10] [--again]

A cell is `RATE/ROUND TRIP/LOSS` in Mbit/s, ms and percent each way; `*` stands for any. What is measured already
is not measured again, so that a run that was ended goes on; what failed is. README.md says how to read it.
"""

import argparse
import concurrent.futures
import fnmatch
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "link"))

from gridreport import write  # noqa: E402
from link import Link  # noqa: E402
from loadtool import Target, build  # noqa: E402
from peers import Certificate, Magicalane, Place, SingBox  # noqa: E402
from running import TIMEOUT, Running  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "grid.json"
RATES, ROUND_TRIPS, LOSSES = [30, 100, 1000], [10, 40, 200], [0, 1, 5, 10]
RIGHT = "10.99.0.2"
ECHOES = 16


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def contenders(options):
    every = [
        Magicalane("quic", "magicalane quic", keys=options.keys),
        Magicalane("tls", "magicalane tls"),
        SingBox("quic", "hysteria2", "hysteria2"),
        SingBox("quic", "tuic cubic", "tuic", congestion_control="cubic"),
        SingBox("quic", "tuic bbr", "tuic", congestion_control="bbr"),
    ]
    wanted = [one for one in every if not options.only or any(word in one.name for word in options.only)]
    return [one for one in wanted if one.is_installed]


class Cell:
    def __init__(self, rate, round_trip, loss):
        self.rate, self.round_trip, self.loss = rate, round_trip, loss
        self.name = f"{rate}/{round_trip}/{loss}"

    def link(self):
        # What is on the way on a full link fits into its queue once more.
        queue = max(100, self.rate * self.round_trip // 8)
        return Link(rate=f"{self.rate}mbit", delay=f"{self.round_trip / 2}ms", queue=f"{queue}kB",
                    loss=self.loss, seed=1)


def measure(cell, contender, folder, certificate, seconds):
    """Echoes on a link that is idle otherwise, then one download, on a link of their own."""
    with cell.link() as link, Target(RIGHT, link.right.prefix) as target:
        place = Place(folder / f"{contender.path}-{contender.name.replace(' ', '-')}", target.address, certificate,
                      ("127.0.0.1", RIGHT), (link.left.prefix, link.right.prefix))
        with Running(contender, place) as running:
            echo = running.entry.run("echo", seconds=seconds, timeout=TIMEOUT, streams=ECHOES)
            before = link.stats()
            cpu = running.cpu_seconds()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                started = time.monotonic()
                download = pool.submit(running.entry.run, "download", seconds=seconds, timeout=TIMEOUT)
                time.sleep(seconds / 4)
                quarter, quarter_at = link.stats(), time.monotonic()
                time.sleep(max(0, started + seconds - time.monotonic()))
                after, after_at = link.stats(), time.monotonic()
                received = download.result()
            carried = (after["down"]["bytes"] - quarter["down"]["bytes"]) * 8 / (after_at - quarter_at)
            return {
                "megabytes_per_second": received["megabytes_per_second"],
                # What the link carried once the download was up to speed.
                "link_share": carried / (cell.rate * 1e6),
                "echo_p50_ms": echo["p50_ms"], "echo_p99_ms": echo["p99_ms"], "echoes": echo["echoes"],
                "cpu_seconds": running.cpu_seconds() - cpu,
                "link_overrun": after["self"]["overrun"] - before["self"]["overrun"],
                "link_late_p99_ms": after["down"]["late_p99_ms"],
            }


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["*"], metavar="RATE/RTT/LOSS")
    parser.add_argument("--seconds", type=float, default=10, help="of the echoes, and of the download")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only who has it in the name")
    parser.add_argument("--keys", default="", help="keys of both our ends, as 'buffer: 1MiB, congestion: cubic'")
    parser.add_argument("--again", action="store_true", help="measure what is measured already once more")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    cells = [cell for cell in itertools.starmap(Cell, itertools.product(RATES, ROUND_TRIPS, LOSSES))
             if any(fnmatch.fnmatch(cell.name, pattern) for pattern in options.cells)]
    todo = [(cell, one) for cell in cells for one in contenders(options)
            if options.again or "echoes" not in results.get(cell.name, {}).get(one.name, {})]
    say(f"{len(todo)} measurements, about {len(todo) * (2 * options.seconds + 3) / 60:.0f} minutes")
    folder = Path(tempfile.mkdtemp(prefix="magicalane-grid-"))
    try:
        certificate = Certificate(folder, ("127.0.0.1", RIGHT))
        for number, (cell, contender) in enumerate(todo, 1):
            try:
                result = measure(cell, contender, folder, certificate, options.seconds)
                text = "{megabytes_per_second:.2f} MB/s, p99 {echo_p99_ms:.1f} ms".format(**result)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                result, text = {"error": str(error)}, f"failed: {error}"
            say(f"{number}/{len(todo)} {cell.name} {contender.name}: {text}")
            results.setdefault(cell.name, {})[contender.name] = result
            options.results.parent.mkdir(parents=True, exist_ok=True)
            options.results.write_text(json.dumps(results, indent=1) + "\n")
            write(options.results)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(write(options.results))


if __name__ == "__main__":
    main()
