"""Another host, as far as a proxy can tell: a network namespace that a pair of veth devices joins to ours."""

import concurrent.futures
import ctypes
import os
import socket
import subprocess

import pytest
from program import eventually

CLONE_NEWNET = 0x40000000


class OtherHost:
    here, there = "10.213.77.1", "10.213.77.2"
    here_v6, there_v6 = "fd13:77::1", "fd13:77::2"

    def __init__(self):
        # The namespace lives as long as this process, which ends with its standard input.
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self.device = f"mgl{os.getpid() % 100000}"
        self.inside = concurrent.futures.ThreadPoolExecutor(1)
        try:
            self._build()
            self.inside.submit(self._enter).result()
        except (OSError, subprocess.CalledProcessError, AssertionError) as error:
            self.close()
            output = getattr(error, "stderr", b"") or b""
            pytest.fail(
                f"needs to make network namespaces (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN): {error} {output}"
            )

    def _build(self):
        pid, peer = str(self.holder.pid), f"{self.device}p"
        ours = os.readlink("/proc/self/ns/net")
        eventually(
            lambda: self.holder.poll() is not None or os.readlink(f"/proc/{pid}/ns/net") != ours,
            "the namespace is there",
        )
        assert self.holder.poll() is None, "unshare --net failed"
        run = lambda *command: subprocess.run(command, check=True, capture_output=True)
        inside = ("nsenter", "--net", "--target", pid)
        run("ip", "link", "add", self.device, "type", "veth", "peer", "name", peer, "netns", pid)
        run("ip", "address", "add", f"{self.here}/30", "dev", self.device)
        run("ip", "-6", "address", "add", f"{self.here_v6}/64", "dev", self.device, "nodad")
        run("ip", "link", "set", self.device, "up")
        run(*inside, "ip", "address", "add", f"{self.there}/30", "dev", peer)
        run(*inside, "ip", "-6", "address", "add", f"{self.there_v6}/64", "dev", peer, "nodad")
        run(*inside, "ip", "link", "set", peer, "up")
        run(*inside, "ip", "link", "set", "lo", "up")

    def _enter(self):
        """Moves the one thread of `inside` into the namespace; sockets it makes stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.holder.pid}/ns/net") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def connect(self, pair):
        """A TCP connection from the other host."""
        return self.inside.submit(socket.create_connection, pair, 30).result()

    def listen(self):
        """A listening socket on the other host."""
        return self.inside.submit(socket.create_server, (self.there, 0)).result()

    def close(self):
        self.inside.shutdown()
        self.holder.stdin.close()
        self.holder.wait(10)
        subprocess.run(["ip", "link", "delete", self.device], capture_output=True)
