#!/usr/bin/env python3
"""Measures the adaptive transport beside its members alone, over a path that gets worse and better again.

    sudo Benchmarks/adaptive.py [--seconds 60] [--loss 10]      # a step: clean, lossy, clean
    sudo Benchmarks/adaptive.py --sweep [--losses 0 1 5]        # from which loss on is QUIC the better member?
    sudo Benchmarks/adaptive.py --open [--times 20]             # the first session, with UDP blocked

README.md says how to read it.
"""

import argparse
import concurrent.futures
import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from adaptivereport import write
from crossing import RIGHT, Crossing, Link, Tunnel, share
from loadtool import LoadError, Target, build
from peers import Certificate, Place
from programs import wait_until

RESULTS = Path(__file__).resolve().parent / "results" / "adaptive.json"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "adaptive.svg"
ECHOES = 16
CONTENDERS = ["adaptive", "quic", "tls"]
# By when a choice is held to be made, in seconds; a step back takes `hold` and `dwell` more.
SETTLED = 15


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def rules(options, loss=0, **more):
    # What is on the way on a full link fits into its queue once more.
    queue = max(100, options.rate * options.rtt // 8)
    return {"rate": f"{options.rate}mbit", "delay": f"{options.rtt / 2}ms", "queue": f"{queue}kB", "loss": loss,
            "seed": options.seed, **more}


def attempt(measure, *arguments):
    """What it measures; None where a session failed, as some do on a lossy path."""
    try:
        return measure(*arguments)
    except LoadError as error:
        say(f"{measure.__self__.tunnel.path}, {measure.__name__}: {error}")
        return None


# The step


class Choices:
    """Which member is chosen, twice a second."""

    def __init__(self, crossing, now):
        self.seen = []
        self._over = threading.Event()

        def watch():
            while not self._over.wait(0.5):
                with contextlib.suppress(OSError, RuntimeError):
                    self.seen.append((now(), crossing.chosen()))

        self._thread = threading.Thread(target=watch, daemon=True)
        self._thread.start()

    def finish(self):
        self._over.set()
        self._thread.join()


def cycle(crossings, pool, options, now):
    """Echoes through all tunnels at once, then one download through each; figures by contender."""
    started = now()
    echoes = pool.map(lambda crossing: attempt(crossing.echo, options.echo_seconds, ECHOES), crossings.values())
    figures = {name: {"each_ms": each or []} for name, each in zip(crossings, echoes)}
    echoed = now()
    for name, crossing in crossings.items():
        count, took, cpu = attempt(crossing.download, options.download_seconds) or (0, options.download_seconds, 0)
        figures[name] |= {"bytes": count, "seconds": took, "cpu_seconds": cpu}
    return {"started": started, "echoed": echoed, "ended": now(), "figures": figures}


def step(options, folder, certificate):
    keys = [f"hold: {options.hold}s", f"dwell: {options.dwell}s", *options.keys]
    losses = [0, options.loss, 0]
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(len(options.only)) as pool:
        crossings = {
            name: stack.enter_context(
                Crossing(Tunnel(name, keys), folder / name, certificate, rules(options), options.tcp)
            )
            for name in options.only
        }
        began = time.monotonic()
        now = lambda: time.monotonic() - began  # noqa: E731
        adaptive = crossings.get("adaptive")
        choices = Choices(adaptive, now) if adaptive else None
        phases = []
        for number, loss in enumerate(losses):
            for crossing in crossings.values():
                crossing.link.set(loss=loss)
            patience = SETTLED + (options.hold + options.dwell if number and not loss else 0)
            phase = {"loss": loss, "started": now(), "settled": now() + patience, "cycles": []}
            phases.append(phase)
            length = max(options.seconds, patience + options.seconds / 2)
            say(f"phase {number + 1} of {len(losses)}: {loss} % loss for {length:.0f} s")
            while now() < phase["started"] + length:
                phase["cycles"].append(cycle(crossings, pool, options, now))
            phase["ended"] = now()
        if choices:
            choices.finish()
        overrun = {name: crossing.link.stats()["self"]["overrun"] for name, crossing in crossings.items()}
        return {
            "rate": options.rate, "rtt": options.rtt, "tcp": options.tcp, "keys": keys, "phases": phases,
            "choices": choices.seen if choices else [], "switches": adaptive.switches() if adaptive else [],
            "overrun": overrun,
        }


# The sweep


def sweep(options, folder, certificate):
    """Echoes and a download through each member alone; TCP under each congestion control."""
    rows = [("quic", None), *(("tls", control) for control in options.controls)]
    names = [f"tls {control}" if control else path for path, control in rows]
    print(f"{options.rate} Mbit/s, {options.rtt:g} ms; echo p50 / p99 in ms, and download in MB/s:\n")
    print("| loss | " + " | ".join(f"{name}: echo | {name}: MB/s" for name in names) + " |")
    print("|--:|" + "--:|--:|" * len(names), flush=True)
    for loss in options.losses:
        cells = []
        with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
            crossings = [
                stack.enter_context(Crossing(
                    Tunnel(path), folder / f"{loss}-{name}".replace(" ", "-"), certificate, rules(options, loss), control
                ))
                for (path, control), name in zip(rows, names)
            ]
            echoes = list(pool.map(lambda crossing: attempt(crossing.echo, options.seconds, ECHOES), crossings))
            for crossing, times in zip(crossings, echoes):
                count, took, _ = attempt(crossing.download, options.seconds) or (0, 1, 0)
                echo = f"{share(times, 0.5):.0f} / {share(times, 0.99):.0f}" if times else "failed"
                cells.append(f"{echo} | {count / took / 1e6:.2f}")
        print(f"| {loss:g} % | " + " | ".join(cells) + " |", flush=True)


# The first session


def first_session(options, folder, certificate):
    """How long the first session of a client takes to open, in milliseconds, for fresh clients."""
    print(f"{options.rtt:g} ms round trip; from SOCKS5 to its answer in ms, median and worst of {options.times}:\n")
    print("| UDP | " + " | ".join(options.only) + " |\n|---|" + "--:|" * len(options.only), flush=True)
    for how, loss_udp, refuses in (("passes", 0, False), ("is dropped", 100, False), ("is refused", 0, True)):
        cells = []
        for name in options.only:
            tunnel = Tunnel(name, options.keys, refuses)
            opened = opening_times(tunnel, folder / f"{name}-{how.replace(' ', '-')}", certificate, options, loss_udp)
            cells.append(f"{share(opened, 0.5):.0f}; {max(opened):.0f}" if opened else "none opens")
        print(f"| {how} | " + " | ".join(cells) + " |", flush=True)


def opening_times(tunnel, folder, certificate, options, loss_udp):
    times = []
    with Link(**rules(options)) as link, Target(RIGHT, link.right.prefix) as target:
        link.use_congestion_control(options.tcp)
        link.set(loss_udp=loss_udp)
        place = Place(folder, target.address, certificate, ("127.0.0.1", RIGHT), (link.left.prefix, link.right.prefix))
        programs = tunnel.start(place)
        try:
            for _ in range(options.times):
                wait_until(lambda: can_connect(link, place.entry), 10, "no client")
                try:
                    times.append(open_session(link, place.entry, target.address))
                except OSError:
                    break
                programs.pop().end()
                programs.append(tunnel.start_client(place))
        finally:
            for program in reversed(programs):
                program.end()
    return times


def can_connect(link, pair):
    link.left.connect(pair, 5).close()
    return True


def open_session(link, proxy, target):
    """Greeting and request of SOCKS5 at once, so that what takes time is the tunnel."""
    with link.left.connect(proxy, 15) as stream:
        started = time.monotonic()
        stream.sendall(b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(target[0]) + target[1].to_bytes(2, "big"))
        answer = b""
        while len(answer) < 12:
            more = stream.recv(12 - len(answer))
            if not more:
                raise ConnectionError("the proxy closed the connection")
            answer += more
        if answer[3]:
            raise ConnectionError(f"SOCKS5 reply {answer[3]}")
        return (time.monotonic() - started) * 1e3


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=100, help="Mbit/s")
    parser.add_argument("--rtt", type=float, default=40, help="milliseconds")
    parser.add_argument("--tcp", default="cubic", help="the congestion control of TCP")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--keys", nargs="+", default=[], help="of the adaptive transport, as 'enter_loss: 3%%'")
    parser.add_argument("--seconds", type=float, help="of a phase (60); with --sweep of a measure (10)")
    parser.add_argument("--loss", type=float, default=10, help="percent each way, in the second phase")
    parser.add_argument("--hold", type=float, default=5, help="seconds")
    parser.add_argument("--dwell", type=float, default=5, help="seconds")
    parser.add_argument("--echo-seconds", type=float, default=4)
    parser.add_argument("--download-seconds", type=float, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--losses", type=float, nargs="+", default=[0, 0.5, 1, 2, 3, 5, 10])
    parser.add_argument("--controls", nargs="+", default=["cubic", "bbr"], help="of TCP, for --sweep")
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--times", type=int, default=20, help="clients for --open")
    options = parser.parse_args()
    options.seconds = options.seconds or (10 if options.sweep else 60)
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build()
    folder = Path(tempfile.mkdtemp(prefix="magicalane-adaptive-"))
    try:
        certificate = Certificate(folder, ("127.0.0.1", RIGHT))
        if options.sweep:
            sweep(options, folder, certificate)
        elif options.open:
            first_session(options, folder, certificate)
        else:
            results = step(options, folder, certificate)
            options.results.parent.mkdir(parents=True, exist_ok=True)
            options.results.write_text(json.dumps(results) + "\n")
            print(write(options.results, options.picture))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
