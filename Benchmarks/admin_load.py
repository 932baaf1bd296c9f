#!/usr/bin/env python3
"""Measures what slow clients of the admin API cost the sessions: throughput with and without them, in turns.

    Benchmarks/admin_load.py [--clients 500] [--mode head body read] [--rounds 8] [--megabytes 2000]

Each round downloads through a SOCKS5 frontend on loopback twice, once with slowhttptest at work and once
without, in an order that alternates. Prints the ratio of the pairs. Build the release before, install
slowhttptest, and keep the machine quiet.
"""

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

BINARY = Path(os.environ.get("MAGICALANE", Path(__file__).resolve().parents[1] / ".build/release/magicalane"))
ADMIN, PROXY = ("127.0.0.1", 19090), ("127.0.0.1", 11080)
CONFIG = f"""
log: {{level: warning}}
admin: {{listen: "{ADMIN[0]}:{ADMIN[1]}"}}
frontends:
  - {{name: socks, type: socks5, listen: "tcp://{PROXY[0]}:{PROXY[1]}"}}
"""
MEGABYTE = 1_000_000
MODES = {
    "head": ["-H", "-i", "1", "-u", "/v1/status"],
    "body": ["-B", "-i", "1", "-s", "100000", "-t", "PUT", "-f", "application/json", "-u", "/v1/log-level"],
    "read": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3", "-u", "/openapi.yaml"],
}


class Slow:
    """slowhttptest at work, once its clients are connected."""

    def __init__(self, mode, count):
        arguments = list(MODES[mode])
        arguments[-1] = f"http://{ADMIN[0]}:{ADMIN[1]}{arguments[-1]}"
        self.process = subprocess.Popen(
            ["slowhttptest", "-c", str(count), "-r", "1000", "-l", "600", "-p", "60", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(3)
        if self.process.poll() is not None:
            raise SystemExit("slowhttptest ended at once")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def serve(size):
    """A target that sends `size` bytes to whoever connects; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    block = bytes(1 << 20)

    def run():
        while True:
            stream, _ = listener.accept()
            with stream:
                for start in range(0, size, len(block)):
                    stream.sendall(block[: size - start])

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def download(port, size):
    """Megabytes a second of one download through the proxy."""
    with socket.create_connection(PROXY) as stream:
        stream.sendall(b"\x05\x01\x00")
        stream.recv(2, socket.MSG_WAITALL)
        stream.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
        stream.recv(10, socket.MSG_WAITALL)
        buffer, count, started = bytearray(1 << 20), 0, time.monotonic()
        while received := stream.recv_into(buffer):
            count += received
        assert count == size
        return size / MEGABYTE / (time.monotonic() - started)


def ready():
    for _ in range(100):
        try:
            return urllib.request.urlopen(f"http://{ADMIN[0]}:{ADMIN[1]}/readyz").read()
        except OSError:
            time.sleep(0.1)
    raise SystemExit("magicalane did not start")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=2000)
    options = parser.parse_args()
    size = options.megabytes * MEGABYTE
    port = serve(size)
    with tempfile.TemporaryDirectory(prefix="magicalane-bench-") as folder:
        (Path(folder) / "magicalane.yaml").write_text(CONFIG)
        program = subprocess.Popen([BINARY, "run"], cwd=folder, stderr=subprocess.DEVNULL)
        try:
            ready()
            download(port, size)
            print(f"{options.clients} slow clients, {options.megabytes} MB for each download\n")
            print("| slow part | MB/s without | MB/s with | with / without, median | lowest | highest |")
            print("|---|--:|--:|--:|--:|--:|", flush=True)
            for mode in options.mode:
                speeds = {True: [], False: []}
                for index in range(options.rounds):
                    for is_slow in (True, False) if index % 2 else (False, True):
                        if is_slow:
                            with Slow(mode, options.clients):
                                speeds[True].append(download(port, size))
                        else:
                            speeds[False].append(download(port, size))
                ratios = [with_them / without for with_them, without in zip(speeds[True], speeds[False])]
                median = statistics.median
                print(
                    f"| {mode} | {median(speeds[False]):.0f} | {median(speeds[True]):.0f} |"
                    f" {median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |",
                    flush=True,
                )
        finally:
            program.terminate()
            program.wait()


main()
