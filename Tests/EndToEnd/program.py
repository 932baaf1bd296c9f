"""Starts the real magicalane, reads from its log where it listens, and sees to its end."""

import json
import os
import re
import resource
import signal
import subprocess
import time
import weakref
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MAGICALANE", REPOSITORY / ".build/release/magicalane"))

# The config for tests: a free port everywhere, no admin listener to collide on, and a drain that is
# over soon when a test left a session open.
DRAIN = "200ms"


class Address:
    """Where a frontend listens, as the program said it."""

    def __init__(self, scheme, host, port):
        self.scheme, self.host, self.port = scheme, host, port

    @classmethod
    def parse(cls, text):
        scheme, location = text.split("://", 1)
        host, port = location.rsplit(":", 1)
        return cls(scheme, host.strip("[]"), int(port))

    @property
    def pair(self):
        return (self.host, self.port)

    def __str__(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def eventually(condition, what, seconds=20):
    """Waits for the condition to hold and gives its value; the time is a guard, not a measure."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds} s: {what}")
        time.sleep(0.02)


def magicalane(*arguments, cwd, env=None, timeout=30):
    """Runs a command that ends by itself; gives the finished process with its output as text."""
    return subprocess.run(
        [BINARY, *map(str, arguments)],
        cwd=cwd,
        env=environment(cwd, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def environment(home, extra=None):
    """An environment without the proxies and config folders of the person who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(Path(home) / "xdg"), **(extra or {})}


class Program:
    """One running `magicalane run` (or `demo`)."""

    # `NAME: TYPE listens on ADDRESS, …`, or the same as JSON where the log is.
    LISTENS = re.compile(r"^(\S+): \S+ listens on (\w+://\S+:\d+)", re.MULTILINE)
    LISTENS_JSON = re.compile(r'"frontend":"([^"]+)","level":"\w+","listen":"(\w+://[^"]+)"')

    def __init__(self, arguments, directory, listeners, env=None, open_files=None, prefix=()):
        """Starts it and waits until it named `listeners` addresses on standard error."""
        self.directory = Path(directory)
        self.log_path = self.directory / "stderr"
        self.out_path = self.directory / "stdout"

        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(
                [*prefix, BINARY, *map(str, arguments)],
                cwd=self.directory,
                env=environment(self.directory, env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                # Code between fork and exec may hang where many threads run, so none runs without need.
                preexec_fn=None if open_files is None else limit,
            )
        try:
            eventually(lambda: self.has_ended or len(self.listening) >= listeners, "the program listens")
            assert not self.has_ended, f"ended with {self.process.returncode}:\n{self.log}"
        except BaseException:
            self.kill()
            raise

    # What it says

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    @property
    def output(self):
        return self.out_path.read_text(errors="replace")

    @property
    def listening(self):
        """Where each frontend listens, by name; what was said last counts."""
        whole_lines = self.log[: self.log.rfind("\n") + 1]
        found = self.LISTENS.findall(whole_lines) or self.LISTENS_JSON.findall(whole_lines)
        return {name: Address.parse(address) for name, address in found}

    def address(self, name):
        return self.listening[name]

    def loud_lines(self):
        """The log's lines above debug."""
        loud = re.compile(r"^\S+ (info|notice|warning|error|critical) ")
        return [line for line in self.log.splitlines() if loud.match(line)]

    # What the kernel says about it

    @property
    def has_ended(self):
        return self.process.poll() is not None

    @property
    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def descriptors_return_to(self, count):
        """No descriptor of a session is left once the sessions are over."""
        eventually(lambda: self.descriptors <= count, f"{self.descriptors} descriptors go back to {count}")

    @property
    def resident(self):
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    # How it ends

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def kill(self):
        if not self.has_ended:
            self.process.kill()
        self.process.wait(10)

    def stop(self):
        """Ends it as a service manager would, and holds it to a clean end."""
        if not self.has_ended:
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"SIGTERM did not end it:\n{self.log[-4000:]}") from None
            assert self.process.returncode == 0, f"ended with {self.process.returncode}:\n{self.log[-4000:]}"
        else:
            raise AssertionError(f"had ended by itself with {self.process.returncode}:\n{self.log[-4000:]}")


class Programs:
    """The programs of one test or one chain: started by it, and all ended behind it."""

    # For the report on a failed test.
    alive = weakref.WeakSet()

    def __init__(self, directory):
        self.directory = Path(directory)
        self.running = []
        Programs.alive.add(self)

    def run(self, config, listeners=None, arguments=(), **options):
        """`magicalane run` with this config: text, or a value that is written as JSON."""
        if not isinstance(config, str):
            config = with_test_defaults(config)
            listeners = len(config["frontends"]) if listeners is None else listeners
            config = json.dumps(config, indent=2)
        directory = self.new_directory()
        (directory / "magicalane.yaml").write_text(config)
        return self.start(["run", "-c", "magicalane.yaml", *arguments], listeners, directory, **options)

    def start(self, arguments, listeners, directory=None, **options):
        program = Program(arguments, directory or self.new_directory(), listeners, **options)
        self.running.append(program)
        return program

    def new_directory(self):
        directory = self.directory / f"magicalane-{len(list(self.directory.iterdir()))}"
        directory.mkdir()
        return directory

    def forget(self, program):
        """The test ended this one itself and looked at its status."""
        program.kill()
        self.running.remove(program)

    def stop(self):
        """Clients first, so that no tunnel is cut from under a program that is still up."""
        errors = []
        for program in reversed(self.running):
            try:
                program.stop()
            except AssertionError as error:
                errors.append(str(error))
        self.running = []
        assert not errors, "\n".join(errors)


def with_test_defaults(config):
    config = dict(config)
    config["limits"] = {"drain_timeout": DRAIN, **config.get("limits", {})}
    config.setdefault("log", {"level": "debug"})
    return config
