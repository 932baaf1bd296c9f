"""Programs that are measured: started in a folder of their own, watched through /proc, and ended for sure."""

import os
import resource
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def raise_descriptor_limit():
    """Raises the limit of open files as far as it may go; gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port():
    """A port that is free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]


class Program:
    """A running program. It dies with this one, however this one ends."""

    def __init__(self, command, folder, log, environment=None, prefix=()):
        self.log = Path(folder) / log
        self.command = [str(word) for word in command]
        with open(self.log, "wb") as output:
            self._process = subprocess.Popen(
                [*prefix, "setpriv", "--pdeathsig", "KILL", *self.command],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **(environment or {})},
            )

    @property
    def has_ended(self):
        return self._process.poll() is not None

    def last_words(self, count=3):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-count:])[-400:]

    def cpu_seconds(self):
        """Processor time so far, with that of its children."""
        return sum(_cpu_ticks(pid) for pid in self._family()) / TICK

    def resident_bytes(self):
        return sum(_resident_pages(pid) for pid in self._family()) * PAGE

    def _family(self):
        found, todo = [], [self._process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    todo += map(int, task.read_text().split())
                except OSError:
                    pass  # It ended in between.
        return found

    def end(self):
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _cpu_ticks(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _resident_pages(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def wait_until(condition, seconds, what, pause=0.05):
    """Waits for `condition()`; its exceptions of type OSError and RuntimeError mean: not yet."""
    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, RuntimeError) as error:
            reason = f": {error}"
        time.sleep(pause)
    raise RuntimeError(f"{what} after {seconds} s{reason}")
