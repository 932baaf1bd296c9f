#!/usr/bin/env python3
"""Compares the congestion controls of the QUIC transport over an emulated link.

    sudo Benchmarks/congestion.py [--rate 100mbit] [--rtt 40] [--loss 0 1 10] [--megabytes 50]

For each loss and control: one download through a tunnel, a small echo beside it, and the same echo alone.
Prints a Markdown table. Build the release before, and keep the machine quiet.
"""

import argparse
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "link"))

from link import Link  # noqa: E402
from tunnel import Tunnel, receive  # noqa: E402

ECHO = 64
MEGABYTE = 1_000_000


def echo(connection):
    while data := connection.recv(ECHO):
        connection.sendall(data)


def file_server(size):
    """Answers any HTTP request with `size` bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    block = bytes(1 << 20)

    def answer(connection):
        if not connection.recv(4096):
            return
        connection.sendall(head)
        for start in range(0, size, len(block)):
            connection.sendall(block[: size - start])

    return answer


class Download:
    """Bytes of one GET, and when they came."""

    def __init__(self, tunnel, target, seconds, size):
        started = time.monotonic()
        end = started + seconds
        self.received = 0
        carried = lambda: (time.monotonic(), tunnel.link.stats()["down"]["bytes"])  # noqa: E731
        first_quarter = None
        with tunnel.open(target) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            buffer = bytearray(1 << 18)
            while (now := time.monotonic()) < end:
                stream.settimeout(end - now)
                try:
                    count = stream.recv_into(buffer)
                except TimeoutError:
                    break
                if not count:
                    break
                self.received += count
                if first_quarter is None and self.received >= size / 4:
                    first_quarter = carried()
            last = carried()
        self.seconds = last[0] - started
        self.rate = self.received / self.seconds / MEGABYTE
        # What the link carried once it was up to speed: without the set-up and the slow start.
        then, before = first_quarter or (started, 0)
        self.megabits = (last[1] - before) / (last[0] - then) * 8 / 1e6


def ping(stream, enough, seconds=60):
    """Round trips of a small echo, in milliseconds, until `enough()` or the time is over."""
    times = []
    end = time.monotonic() + seconds
    while not enough(times) and time.monotonic() < end:
        start = time.monotonic()
        stream.sendall(bytes(ECHO))
        receive(stream, ECHO)
        times.append((time.monotonic() - start) * 1e3)
    return times


def share(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] if values else float("nan")


def measure(link, servers, control, options):
    files, echoes = servers
    with Tunnel(link, congestion=control, **options.keys) as tunnel, tunnel.open(echoes) as stream:
        idle = ping(stream, lambda times: len(times) >= options.pings, options.seconds)
        results = []
        size = options.megabytes * MEGABYTE
        before, cpu = link.stats(), tunnel.cpu_seconds()
        download = threading.Thread(
            target=lambda: results.append(Download(tunnel, files, options.seconds, size)), daemon=True
        )
        download.start()
        busy = ping(stream, lambda _: not download.is_alive(), 2 * options.seconds)
        download.join()
        after, cpu_after = link.stats(), tunnel.cpu_seconds()
        [download] = results
        down = {name: after["down"][name] - before["down"][name] for name in after["down"]}
        used = {name: after["self"][name] - before["self"][name] for name in after["self"]}
        server, client = (after - before for before, after in zip(cpu, cpu_after))
        print(
            f"{control}: {download.received} bytes in {download.seconds:.2f} s; lost {down['lost']:.0f} packets;"
            f" CPU seconds: server {server:.2f}, client {client:.2f}, link {used['cpu_seconds']:.2f};"
            f" the link overran {used['overrun']:.0f} times, p99 late by {after['down']['late_p99_ms']} ms",
            file=sys.stderr,
        )
        dropped = down["dropped"] / max(1, down["taken"]) * 100
        return (
            f"{download.rate:.2f} | {download.megabits:.1f} | {dropped:.1f} |"
            f" {share(idle, 0.5):.1f} | {share(idle, 0.99):.1f} | {share(busy, 0.5):.0f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--rtt", type=float, default=40, help="milliseconds")
    parser.add_argument("--queue", default="500kB")
    parser.add_argument("--loss", type=float, nargs="+", default=[0, 1, 10], help="percent, each way")
    parser.add_argument("--controls", nargs="+", default=["cubic", "reno", "bbr", "bbr2"])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="most for one download")
    parser.add_argument("--pings", type=int, default=100)
    parser.add_argument("--buffer", help="the buffer of both programs")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.keys = {"buffer": options.buffer} if options.buffer else {}

    print(f"{options.rate}, {options.rtt:g} ms, queue {options.queue}, {options.megabytes} MB:\n")
    print("| loss | control | MB/s | Mbit/s on the link | dropped % | echo p50 ms | p99 ms | p50 beside it |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for loss in options.loss:
        for control in options.controls:
            rules = {"rate": options.rate, "delay": f"{options.rtt / 2}ms", "queue": options.queue}
            with Link(**rules, loss=loss, seed=options.seed) as link:
                servers = link.right.serve(file_server(options.megabytes * MEGABYTE)), link.right.serve(echo)
                result = measure(link, servers, control, options)
            print(f"| {loss:g} % | {control} | {result} |", flush=True)


main()
