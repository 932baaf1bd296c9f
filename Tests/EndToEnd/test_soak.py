"""Longer runs, outside `make test`: a gigabyte each way through each transport, a thousand sessions."""

import os
from pathlib import Path

import pytest
from chain import CONNECTS, Chain, exit_frontend, tunnel
from clients import SOCKS5, download, many, open_through, read_exactly, upload

GiB = 1 << 30

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(params=CONNECTS)
def chain(request, tmp_path, certificates):
    with Chain(tmp_path, certificates, "socks5", "tcp", request.param) as chain:
        yield chain


def test_a_gigabyte_down(chain, targets, key):
    with chain.open(targets.host, targets.port) as stream:
        download(stream, key, GiB)


def test_a_gigabyte_up(chain, targets, key):
    with chain.open(targets.host, targets.port) as stream:
        upload(stream, key, GiB)
    assert targets.outcome(key)["bytes"] == GiB


def thousand_sessions(open_stream, targets, key, count=1000):
    with many(count, lambda _: open_stream()) as streams:
        for index, stream in enumerate(streams):
            stream.sendall(f"echo {key}/{index}\n".encode())
        for round in range(3):
            for index, stream in enumerate(streams):
                stream.sendall((index * 1000 + round).to_bytes(4, "big") * 4096)
            for index, stream in enumerate(streams):
                assert read_exactly(stream, 16384) == (index * 1000 + round).to_bytes(4, "big") * 4096
        assert targets.opened(f"{key}/") == count


def test_a_thousand_sessions_at_once(chain, targets, key):
    thousand_sessions(lambda: chain.open(targets.host, targets.port), targets, key)


def udp_connections(program):
    """The UDP sockets of a program: one for each QUIC connection of a client."""
    folder = f"/proc/{program.process.pid}"
    inodes = set()
    for name in os.listdir(f"{folder}/fd"):
        try:
            link = os.readlink(f"{folder}/fd/{name}")
        except FileNotFoundError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    lines = [
        line.split()
        for kind in ("udp", "udp6")
        for line in Path(f"{folder}/net/{kind}").read_text().splitlines()[1:]
    ]
    return sum(fields[9] in inodes for fields in lines)


def test_a_thousand_sessions_over_each_quic_connection(programs, certificates, targets, key):
    """A near end has one connection for each of its event loops, which are as many as there are cores."""
    far = programs.run({"frontends": [exit_frontend("quic", certificates)]})
    front = {"name": "front", "type": "socks5", "listen": "tcp://127.0.0.1:0", "transport": "tunnel"}
    config = {"frontends": [front], "transports": [tunnel("quic", far.address("exit"), certificates)]}
    near = programs.run(config)
    proxy = near.address("front").pair
    count = 1000 * os.cpu_count()
    thousand_sessions(lambda: open_through(SOCKS5, proxy, targets.host, targets.port), targets, key, count)
    assert udp_connections(near) <= os.cpu_count()


def test_a_thousand_streams_of_one_foreign_connection(tmp_path, certificates, targets, key):
    """aioquic has exactly one connection, and waits for the credit that the listener gives."""
    with Chain(tmp_path, certificates, "http", "quic", "direct") as chain:
        thousand_sessions(lambda: chain.open(targets.host, targets.port), targets, key)
