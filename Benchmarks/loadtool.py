"""The load tool as Python functions: builds it, runs its target, gives its line of JSON as a dictionary."""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent / "load"
BINARY = HERE.parents[1] / ".build" / "load"


def build():
    """Compiles the tool where its sources are newer than the program."""
    sources = sorted(HERE.glob("*.[ch]"))
    if not BINARY.exists() or BINARY.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        BINARY.parent.mkdir(exist_ok=True)
        code = [file for file in sources if file.suffix == ".c"]
        flags = ["-std=c17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
        # Built beside and moved, so that another run never starts half a program.
        new = BINARY.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", *flags, "-o", new, *code], check=True)
        new.rename(BINARY)
    return BINARY


class LoadError(RuntimeError):
    """The load tool did not get what it wanted; the message says what."""


class Target:
    """The far end of the measurements; a context manager."""

    def __init__(self, address="127.0.0.1", prefix=()):
        self._process = subprocess.Popen(
            [*prefix, build(), "target", "--listen", f"{address}:0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.address = address, json.loads(self._process.stdout.readline())["port"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(5)
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Entry:
    """Where the load goes in: `proxy` is a SOCKS5 proxy, or None; `target` is what to ask it for."""

    def __init__(self, target, proxy=None, prefix=()):
        self._arguments = ["--target", "%s:%d" % target]
        self._proxy = ["--proxy", "%s:%d" % proxy] if proxy else []
        self._prefix = prefix

    def command(self, subcommand, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [*self._prefix, str(build()), subcommand, *self._arguments, *self._proxy, *words]

    def run(self, subcommand, seconds=1.0, timeout=10, **options):
        command = self.command(subcommand, seconds=seconds, timeout=timeout, **options)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * timeout + 10)
        except subprocess.TimeoutExpired:
            raise LoadError("the load tool hung") from None
        return parse(done.stdout, done.stderr)


class Idle:
    """Sessions that stay open until `close`."""

    def __init__(self, entry, count, timeout=30):
        self._process = subprocess.Popen(
            entry.command("idle", streams=count, timeout=timeout),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        try:
            parse(self._process.stdout.readline(), "")
        except LoadError:
            self.close()
            raise

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


def parse(output, errors):
    try:
        result = json.loads(output)
    except ValueError:
        raise LoadError(f"the load tool ended: {(errors or output).strip()[-200:]}") from None
    if "error" in result:
        raise LoadError(result["error"])
    return result
