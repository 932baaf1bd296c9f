"""Streams whose reader stops: what waits in both programs stays within what `buffer` and `memory` say."""

import socket
import time

import pytest
from admin import administered, front
from chain import CONNECTS, Chain, exit_frontend, tunnel
from clients import PROTOCOLS, Refused, download, many, open_through, read_exactly
from program import eventually

MiB = 1 << 20
BUFFER = MiB
# What a process needs beside the bytes that wait: its code, and what the allocator keeps.
SLACK = 48 * MiB
# For all streams together where none has a `buffer`: far less than 100 of them would take.
MEMORY = 64 * MiB
# Far more than all buffers on the way can hold.
UPLOAD = 512 * MiB


@pytest.fixture(params=CONNECTS)
def chain(request, tmp_path, certificates):
    with Chain(tmp_path, certificates, "socks5", "tcp", request.param, {"buffer": BUFFER}) as chain:
        yield chain


@pytest.fixture(params=CONNECTS)
def scarce(request, tmp_path, certificates):
    with Chain(tmp_path, certificates, "socks5", "tcp", request.param, {"memory": MEMORY}) as chain:
        yield chain


def settled(measure, rounds=4):
    """Waits until what is measured has been the same for a while."""
    seen = []

    def is_steady():
        seen.append(measure())
        time.sleep(0.25)
        return len(seen) > rounds and len(set(seen[-rounds:])) == 1

    eventually(is_steady, "nothing moves any more", seconds=60)


def stays_bounded(chain, targets, key, count, stall, moved, allowed):
    running = [program for program in (chain.near, chain.far) if program]
    base = {program: program.resident for program in running}
    descriptors = [program.descriptors for program in running]
    with many(count, lambda index: stall(chain, index)):
        settled(moved)
        for program in running:
            most = base[program] + (allowed or count * 2 * BUFFER) + SLACK
            assert program.resident <= most, f"{program.resident >> 20} MiB where {most >> 20} are allowed"
        with chain.open(targets.host, targets.port) as stream:
            download(stream, f"{key}/other", 16 * MiB)
        # What a target has not read yet must reach it, so it is the target that ends these.
        targets.ask("release", f"{key}/")
    for program, count in zip(running, descriptors):
        program.descriptors_return_to(count + 24)


def downloads(chain, targets, key, count, allowed=None):
    def stall(chain, index):
        stream = chain.open(targets.host, targets.port)
        # A small socket buffer, so that what waits is in the programs and not in the kernel.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.sendall(f"source {key}/{index} {512 * MiB} {index}\n".encode())
        read_exactly(stream, 1)
        return stream

    stays_bounded(chain, targets, key, count, stall, lambda: targets.ask("sent", f"{key}/"), allowed)


def uploads(chain, targets, key, count, allowed=None):
    sent = dict.fromkeys(range(count), 0)
    streams = {}

    def stall(chain, index):
        stream = streams[index] = chain.open(targets.host, targets.port)
        stream.sendall(f"stall {key}/{index}\n".encode())
        stream.setblocking(False)
        return stream

    def moved():
        for index, stream in streams.items():
            try:
                while sent[index] < UPLOAD:
                    sent[index] += stream.send(b"z" * 65536)
            except BlockingIOError:
                pass
        return sum(sent.values())

    stays_bounded(chain, targets, key, count, stall, moved, allowed)
    # What the kernels' buffers between four processes take is not ours to say.
    assert all(amount < UPLOAD for amount in sent.values()), "a target that does not read takes everything"


def test_30_downloads_whose_client_stops_reading(chain, targets, key):
    downloads(chain, targets, key, 30)


def test_30_uploads_whose_target_stops_reading(chain, targets, key):
    uploads(chain, targets, key, 30)


@pytest.mark.timeout(180)
def test_100_downloads_stay_within_the_memory_of_the_program(scarce, targets, key):
    downloads(scarce, targets, key, 100, MEMORY)


@pytest.mark.timeout(180)
def test_100_uploads_stay_within_the_memory_of_the_program(scarce, targets, key):
    uploads(scarce, targets, key, 100, MEMORY)


@pytest.mark.parametrize("connect", CONNECTS)
def test_what_waits_is_shown_and_given_back(programs, certificates, targets, key, connect):
    # A buffer that is given counts, and is not made smaller.
    config = {"frontends": [front()], "limits": {"memory": MEMORY, "buffer": 8 * MiB}}
    if connect != "direct":
        far = programs.run({"frontends": [exit_frontend(connect, certificates)]})
        config["transports"] = [tunnel(connect, far.address("exit"), certificates)]
        config["frontends"][0]["transport"] = "tunnel"
    program, api = administered(programs, config)
    memory = lambda: api.get("/v1/status").json["memory"]  # noqa: E731
    assert memory() == {"limit": MEMORY, "used": 0}
    way = PROTOCOLS["socks5"], program.address("front").pair

    def stall(index):
        stream = open_through(*way, targets.host, targets.port)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.sendall(f"source {key}/{index} {512 * MiB} {index}\n".encode())
        read_exactly(stream, 1)
        return stream

    with many(40, stall):
        settled(lambda: targets.ask("sent", f"{key}/"))
        used = memory()["used"]
        assert 16 * MiB < used < 320 * MiB
        assert f"magicalane_memory_used_bytes {used}\n" in api.get("/metrics").body.decode()
        # So little that it is used up: new sessions are refused, and those that are there live on.
        changed, tag = api.config()
        changed["limits"]["memory"] = 16 * MiB
        assert api.put("/v1/config", changed, tag=tag).status == 200
        assert memory() == {"limit": 16 * MiB, "used": used}
        with pytest.raises(Refused):
            open_through(*way, targets.host, targets.port)
        targets.ask("release", f"{key}/")
    eventually(lambda: memory()["used"] == 0, "all is given back", seconds=30)
    with open_through(*way, targets.host, targets.port) as stream:
        download(stream, f"{key}/other", 16 * MiB)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_100_downloads_whose_client_stops_reading(chain, targets, key):
    downloads(chain, targets, key, 100)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_100_uploads_whose_target_stops_reading(chain, targets, key):
    uploads(chain, targets, key, 100)
