"""Hundreds of slow admin clients: the API goes on to answer others, and what it spends is bounded."""

import shutil
import subprocess

import pytest
from admin import administered, front
from clients import SOCKS5, download, open_through
from program import REPOSITORY

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

SLOWHTTPTEST = shutil.which("slowhttptest") or REPOSITORY / ".venv/debian/usr/bin/slowhttptest"
COUNT = 500
# What slowhttptest is asked for; each client goes on for as long as it is let.
MODES = {
    "head": ["-H", "-i", "1", "-u", "/v1/status"],
    "body": ["-B", "-i", "1", "-s", "100000", "-t", "PUT", "-f", "application/json", "-u", "/v1/log-level"],
    "read": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3", "-u", "/openapi.yaml"],
}
# For the daemon: 500 connections at 24 KiB, and what the allocator keeps.
MOST_MEMORY = 96 << 20


@pytest.mark.parametrize("mode", MODES)
def test_slow_clients_cost_a_bounded_amount(programs, targets, key, mode):
    program, api = administered(programs, {"frontends": [front()]})
    api.get("/v1/status")
    memory, descriptors = program.resident, program.descriptors
    arguments = list(MODES[mode])
    arguments[-1] = f"http://{api.address}{arguments[-1]}"
    with subprocess.Popen(
        [SLOWHTTPTEST, "-c", str(COUNT), "-r", "200", "-l", "40", "-p", "30", *arguments],
        cwd=program.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as slow:
        most_memory = most_descriptors = answered = 0
        while slow.poll() is None:
            assert api.get("/v1/status").status == 200
            with open_through(SOCKS5, program.address("front").pair, targets.host, targets.port) as stream:
                download(stream, f"{key}/{answered}", 1 << 20)
            answered += 1
            most_memory = max(most_memory, program.resident - memory)
            most_descriptors = max(most_descriptors, program.descriptors - descriptors)
    assert answered > 10
    assert most_descriptors <= COUNT + 64
    assert most_memory <= MOST_MEMORY, f"{most_memory >> 20} MiB"
    program.descriptors_return_to(descriptors + 24)
