"""A contender that is up, and what can be measured of it."""

import time

from programs import wait_until

# Name: the load tool's subcommand, and its streams.
MEASURES = {
    "download": ("download", 1),
    "upload": ("upload", 1),
    "download8": ("download", 8),
    "echo": ("echo", 8),
    "connections": ("connections", 8),
}
# Seconds for what has no time of its own.
TIMEOUT = 15
# And for opening thousands of sessions.
IDLE_TIMEOUT = 60


class Running:
    """A contender that is up and answers; a context manager."""

    def __init__(self, contender, place):
        self.contender = contender
        self.programs = contender.start(place)
        try:
            self.entry = place.load_entry(contender.speaks_socks)
            wait_until(self._answers, TIMEOUT, "no answer")
        except BaseException as error:
            words = " / ".join(program.last_words() for program in self.programs)
            self.close()
            if isinstance(error, RuntimeError) and words:
                raise RuntimeError(f"{error}; it said: {words}") from None
            raise

    def _answers(self):
        if any(program.has_ended for program in self.programs):
            return False
        probe = getattr(self.contender, "has_answered", None)
        return probe() if probe else self.entry.run("download", bytes=1000, timeout=5)

    def cpu_seconds(self):
        return sum(program.cpu_seconds() for program in self.programs)

    def resident_bytes(self):
        return [program.resident_bytes() for program in self.programs]

    def measure(self, name, seconds):
        subcommand, streams = MEASURES[name]
        own = getattr(self.contender, "run", None)
        before = self.cpu_seconds()
        if own:
            result = own(name, seconds)
        else:
            result = self.entry.run(subcommand, seconds=seconds, timeout=TIMEOUT, streams=streams)
        if result is None:
            return None
        # What was on its way when the load ended is worked off, and counted.
        time.sleep(0.1)
        result["cpu_seconds"] = self.cpu_seconds() - before + result.get("client_cpu_seconds", 0)
        return result

    def close(self):
        for program in reversed(self.programs):
            program.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
