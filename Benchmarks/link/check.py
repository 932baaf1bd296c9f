#!/usr/bin/env python3
"""Checks that the link does what it says: rate, delay, loss, queue, and that nothing of it stays behind.

    sudo Benchmarks/link/check.py
"""

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from link import Link, build

PAYLOAD = 1472  # with the headers of UDP and IPv4 a packet of 1500 bytes
# Linux; Python has no names for them.
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35


class Arrived(NamedTuple):
    number: int
    sent: float
    at: float

    @property
    def delay(self):
        return self.at - self.sent


def udp(end):
    udp = end.socket(socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    udp.settimeout(2)
    udp.bind((end.address, 0))
    return udp


def blast(sender, address, seconds, pause):
    """Sends numbered packets that say when they left; gives how many."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        sender.sendto(struct.pack("!IQ", number, time.time_ns()).ljust(PAYLOAD, b"."), address)
        number += 1
        if pause:
            time.sleep(pause)
    return number


def collect(receiver):
    """Reads what waits in the socket, until nothing has come for two seconds.

    Arrival is the kernel's time, so that it does not matter when this is called.
    """
    packets = []
    while True:
        try:
            packet, [(_, _, stamp)], _, _ = receiver.recvmsg(2048, 64)
        except TimeoutError:
            return packets
        number, sent = struct.unpack_from("!IQ", packet)
        seconds, nanoseconds = struct.unpack("qq", stamp)
        packets.append(Arrived(number, sent / 1e9, seconds + nanoseconds / 1e9))


def send_across(source, target, seconds, pause=0.0):
    """Gives how many packets were sent, and those that arrived."""
    with udp(source) as sender, udp(target) as receiver:
        return blast(sender, receiver.getsockname(), seconds, pause), collect(receiver)


def share(values, part):
    return sorted(values)[int(len(values) * part)]


def check(what, value, low, high):
    print(f"{'ok  ' if low <= value <= high else 'FAIL'} {what}: {value:.3f} (expected {low} to {high})")
    return low <= value <= high


def delay_and_order():
    with Link(rate="100mbit", delay="20ms", queue="500kB") as link:
        sent, arrived = send_across(link.left, link.right, 2, pause=0.001)
        numbers = [packet.number for packet in arrived]
        delays = [packet.delay * 1e3 for packet in arrived]
        yield check("packets that do not arrive", sent - len(arrived), 0, 0)
        yield check("packets out of order", sum(a > b for a, b in zip(numbers, numbers[1:])), 0, 0)
        yield check("median delay, ms", share(delays, 0.5), 20.1, 20.5)
        yield check("p99 delay, ms", share(delays, 0.99), 20.1, 21)


def rate_and_queue():
    with Link(rate="100mbit", delay="10ms", queue="1MB") as link:
        sent, arrived = send_across(link.right, link.left, 3)
        counts = link.stats()
        seconds = arrived[-1].at - arrived[0].at
        yield check("packets offered, by what fits", sent * 1500 * 8 / 3 / 100e6, 1.2, 100)
        yield check("rate, Mbit/s", (len(arrived) - 1) * 1500 * 8 / seconds / 1e6, 98, 101)
        yield check("packets lost elsewhere", sent - len(arrived) - counts["down"]["dropped"], 0, 0)
        # 10 ms, and 80 ms for 1 MB.
        yield check("median delay, ms", share([packet.delay * 1e3 for packet in arrived], 0.5), 89, 90.5)
        yield check("p99 lateness of the link, ms", counts["down"]["late_p99_ms"], 0, 1)


def loss():
    with Link(delay="1ms", loss_udp="10/0", seed=7) as link:
        sent, arrived = send_across(link.left, link.right, 2, pause=1e-4)
        numbers = {packet.number for packet in arrived}
        lost = [number not in numbers for number in range(sent)]
        yield check("share of UDP lost upwards", sum(lost) / sent, 0.09, 0.11)
        sent, arrived = send_across(link.right, link.left, 0.5, pause=1e-4)
        yield check("share of UDP lost downwards", 1 - len(arrived) / sent, 0, 0)
        link.set(loss="0", loss_tcp="100")
        sent, arrived = send_across(link.left, link.right, 0.5, pause=1e-4)
        yield check("share of UDP lost, now that TCP is", 1 - len(arrived) / sent, 0, 0)
    with Link(delay="1ms", loss_udp="10/0", seed=7) as link:
        sent, arrived = send_across(link.left, link.right, 2, pause=1e-4)
        numbers = {packet.number for packet in arrived}
        differences = sum(was != (number not in numbers) for number, was in zip(range(sent), lost))
        yield check("losses that differ with the same seed", differences, 0, 0)


def ends():
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None):
        process = subprocess.Popen([build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        namespace = process.stdout.readline().split()[2]
        command = ["nsenter", f"--net={namespace}", "sh", "-c", "echo inside; exec cat"]
        inside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        inside.stdout.readline()
        if how:
            os.kill(process.pid, how)
        else:
            process.stdin.close()
        process.wait(5)
        # A program inside keeps its namespace, with loopback alone: the device went with the link.
        left = Path(f"/proc/{inside.pid}/net/dev").read_text().count("link0")
        yield check(f"devices left by {how.name if how else 'the end of the input'}", left, 0, 0)
        inside.communicate()


def main():
    mine = Path("/proc/self/net/dev").read_text().count("\n")
    results = [result for part in (delay_and_order, rate_and_queue, loss, ends) for result in part()]
    results.append(check("devices added here", Path("/proc/self/net/dev").read_text().count("\n") - mine, 0, 0))
    raise SystemExit(not all(results))


main()
