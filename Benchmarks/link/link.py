"""The emulated link as a Python object: starts it, puts programs and sockets at its ends, reads its counts."""

import concurrent.futures
import ctypes
import socket
import subprocess
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINARY = HERE.parents[1] / ".build" / "link"
CLONE_NEWNET = 0x40000000


def build():
    """Compiles the link where its sources are newer than the program."""
    sources = sorted(HERE.glob("*.[ch]"))
    if not BINARY.exists() or BINARY.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        BINARY.parent.mkdir(exist_ok=True)
        code = [file for file in sources if file.suffix == ".c"]
        warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
        subprocess.run(["cc", "-std=c17", "-O2", *warnings, "-o", BINARY, *code, "-lm"], check=True)
    return BINARY


class End:
    """One end: a network namespace with an address, that reaches the other end and nothing else."""

    def __init__(self, address, namespace):
        self.address = address
        self.namespace = namespace
        self._inside = concurrent.futures.ThreadPoolExecutor(1)
        self._inside.submit(self._enter).result()

    def _enter(self):
        """Moves the one thread of `_inside` into the namespace; sockets made there stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(self.namespace) as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    @property
    def prefix(self):
        """What stands before a command that shall run here."""
        return ["nsenter", f"--net={self.namespace}"]

    def socket(self, kind=socket.SOCK_STREAM):
        return self._inside.submit(socket.socket, socket.AF_INET, kind).result()

    def connect(self, pair, timeout=30):
        return self._inside.submit(socket.create_connection, pair, timeout).result()

    def serve(self, answer):
        """Calls `answer(socket)` in a thread for each connection; gives the address to connect to."""
        listener = self._inside.submit(socket.create_server, (self.address, 0)).result()

        def answer_and_close(connection):
            with connection:
                try:
                    answer(connection)
                except OSError:
                    pass  # The client went away, as it may.

        def accept():
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer_and_close, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()

    def close(self):
        self._inside.shutdown()


class Link:
    """A running link; a context manager. Rules are those of `link --help`, with `_` for `-`."""

    def __init__(self, **rules):
        arguments = [text for name, value in rules.items() for text in (option(name), str(value))]
        self._process = subprocess.Popen(
            [build(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        try:
            self.left, self.right = self._read_end("left"), self._read_end("right")
        except BaseException:
            self.close()
            raise

    def _read_end(self, name):
        words = self._process.stdout.readline().split()
        if len(words) != 3 or words[0] != name:
            raise RuntimeError("the link did not start; it says why above")
        return End(*words[1:])

    def set(self, **rules):
        """Changes rules while packets are on their way."""
        for name, value in rules.items():
            self._process.stdin.write(f"{option(name)[2:]} {value}\n")
            answer = self._process.stdout.readline().strip()
            if answer != "ok":
                raise ValueError(answer)

    def use_congestion_control(self, name):
        """What TCP between the ends uses from the next connection on: `cubic`, `bbr`, `reno`.

        It goes by the routes: another default than the host's needs the host's leave in a namespace.
        """
        for end, peer in ((self.left, self.right), (self.right, self.left)):
            route = f"{peer.address} dev link0 proto kernel scope link src {end.address} congctl {name}"
            subprocess.run([*end.prefix, "ip", "route", "replace", *route.split()], check=True)

    def stats(self):
        """Counts since the start: `{"up": {…}, "down": {…}, "self": {…}}`."""
        self._process.stdin.write("stats\n")
        lines = [self._process.stdout.readline().split() for _ in range(3)]
        return {words[0]: dict(zip(words[1::2], map(float, words[2::2]))) for words in lines}

    def close(self):
        for end in (getattr(self, "left", None), getattr(self, "right", None)):
            if end:
                end.close()
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def option(name):
    return "--" + name.replace("_", "-")
