#!/usr/bin/env python3
"""Measures one download against the size of the buffer, over a long link: the first author's experiment.

    sudo Benchmarks/buffers.py [--rate 30] [--rtt 200] [--sizes 8KiB 1MiB none] [--picture docs/images/buffers.svg]

Prints a Markdown table and draws it. `none` leaves `buffer` out, so that streams size themselves. Build the release
before.
"""

import argparse
import math
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "link"))

from link import Link  # noqa: E402
from picture import text  # noqa: E402
from tunnel import Tunnel  # noqa: E402

SIZES = ["8KiB", "16KiB", "32KiB", "64KiB", "128KiB", "256KiB", "512KiB", "1MiB", "2MiB", "4MiB", "none"]
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
COLORS = {"quic": "#2563eb", "tls": "#ea580c"}
GREY = "#94a3b8"
LEFT, TOP, WIDTH, HEIGHT = 70, 50, 620, 300


def bytes_of(size):
    return int(size[:-3]) * UNITS[size[-3:]]


def endless(connection):
    block = bytes(1 << 18)
    connection.recv(1)
    while True:
        connection.sendall(block)


def megabits(link, transport, size, options):
    """What a download brings once it is up to speed: without its first third."""
    keys = {} if size == "none" else {"buffer": size}
    source = link.right.serve(endless)
    with Tunnel(link, transport, **keys) as tunnel, tunnel.open(source) as stream:
        stream.sendall(b"!")
        stream.settimeout(10)
        buffer = bytearray(1 << 18)
        received, started = 0, time.monotonic()
        first = None
        while (spent := time.monotonic() - started) < options.seconds:
            received += stream.recv_into(buffer)
            if first is None and spent >= options.seconds / 3:
                first = spent, received
        return (received - first[1]) * 8 / 1e6 / (spent - first[0])


def measure(options):
    queue = round(options.rate * options.rtt / 8)
    figures = {}
    for size in options.sizes:
        for transport in COLORS:
            rules = {"rate": f"{options.rate}mbit", "delay": f"{options.rtt / 2}ms", "queue": f"{queue}kB"}
            with Link(**rules, seed=1) as link:
                figures[transport, size] = megabits(link, transport, size, options)
            print(f"{transport} {size}: {figures[transport, size]:.2f} Mbit/s", file=sys.stderr, flush=True)
    return figures


def table(figures, options):
    yield "| `buffer` | QUIC Mbit/s | TLS Mbit/s |"
    yield "|--:|--:|--:|"
    for size in options.sizes:
        name = "none: by the path" if size == "none" else f"{size[:-3]} {size[-3:]}"
        yield f"| {name} | {figures['quic', size]:.2f} | {figures['tls', size]:.2f} |"


class Plot:
    """Buffer to the right, Mbit/s upwards, both by powers; `none` in a column of its own."""

    def __init__(self, figures, options):
        self.figures, self.options = figures, options
        self.fixed = [size for size in options.sizes if size != "none"]
        self.exponents = [math.log2(bytes_of(size)) for size in (self.fixed[0], self.fixed[-1])]
        self.least, self.most = -1.0, math.ceil(math.log10(options.rate) * 10 + 1) / 10

    def x(self, size):
        if size == "none":
            return LEFT + WIDTH
        first, last = self.exponents
        return LEFT + (math.log2(bytes_of(size)) - first) / (last - first) * (WIDTH - 70)

    def y(self, megabits):
        return TOP + HEIGHT * (self.most - math.log10(max(megabits, 0.1))) / (self.most - self.least)

    def draw(self):
        shapes = [*self.axes(), *self.bound()]
        for row, transport in enumerate(COLORS):
            shapes += self.line(transport)
            shapes.append(self.square(LEFT + 14, TOP + 14 + row * 18, COLORS[transport]))
            shapes.append(text(LEFT + 26, TOP + 18 + row * 18, f"{transport.upper()} tunnel"))
        width, height = LEFT + WIDTH + 60, TOP + HEIGHT + 60
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(shapes) + "\n</svg>\n"
        )

    def axes(self):
        rate, rtt = self.options.rate, self.options.rtt
        yield text(LEFT, 24, f"One download over {rate} Mbit/s and {rtt:g} ms, by the size of the buffer", 15, "bold")
        for mark in (0.1, 0.3, 1, 3, 10, rate):
            yield self.stroke([(LEFT, self.y(mark)), (LEFT + WIDTH + 20, self.y(mark))], "#e7e5e4")
            yield text(LEFT - 8, self.y(mark) + 4, f"{mark:g}", anchor="end")
        yield text(LEFT - 8, TOP - 8, "Mbit/s", anchor="end")
        for size in self.options.sizes:
            name = "by the path" if size == "none" else f"{size[:-3]} {size[-3:]}"
            yield text(self.x(size), TOP + HEIGHT + 20, name, 10, anchor="middle")
        yield text(LEFT + WIDTH / 2, TOP + HEIGHT + 44, "buffer", anchor="middle")
        yield self.stroke([(LEFT, self.y(rate)), (LEFT + WIDTH + 20, self.y(rate))], "#78716c", "6 4")
        yield text(LEFT + WIDTH + 20, self.y(rate) - 6, "the link", anchor="end")

    def bound(self):
        """One buffer each round trip, up to the link."""
        speeds = [(size, bytes_of(size) * 8 / 1e3 / self.options.rtt) for size in self.fixed]
        places = [(self.x(size), self.y(min(speed, self.options.rate))) for size, speed in speeds]
        yield self.stroke(places, GREY, "2 4")
        size, speed = speeds[min(3, len(speeds) - 1)]
        yield text(self.x(size) - 6, self.y(speed) - 8, "one buffer per round trip", 10, anchor="end")

    def line(self, transport):
        color = COLORS[transport]
        place = lambda size: (self.x(size), self.y(self.figures[transport, size]))  # noqa: E731
        yield self.stroke([place(size) for size in self.fixed], color, width=2)
        for size in self.options.sizes:
            yield self.square(*place(size), color)

    @staticmethod
    def square(x, y, color):
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>'

    @staticmethod
    def stroke(places, color, dashes="none", width=1):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return (f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}" '
                f'stroke-dasharray="{dashes}"/>')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=30, help="Mbit/s")
    parser.add_argument("--rtt", type=float, default=200, help="milliseconds")
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=15, help="of each download")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs/images/buffers.svg")
    options = parser.parse_args()
    figures = measure(options)
    print("\n".join(table(figures, options)))
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_text(Plot(figures, options).draw())


main()
