"""From the figures of a run to tables in Markdown: absolute values, and ratios against the peers to beat."""

import json
import statistics
import sys
from pathlib import Path

from picture import draw

PATHS = {"direct": "Direct: SOCKS5 to the target", "tls": "Over TLS", "quic": "Over QUIC"}
NO_PEER = ("no proxy", "ngtcp2 alone")


class Figures:
    """The figures of one run, by contender."""

    def __init__(self, run):
        self.run = run
        self.figures = run["figures"]
        # JSON has words for the counts of sessions.
        self.levels = sorted({int(count) for one in self.figures.values() for memory in one.get("memory", [])
                              for count in memory["sessions"]})

    def names(self, path):
        """Contenders of a path: magicalane, then peers as they came, then those that are no proxy."""
        names = [key.partition("/")[2] for key in self.figures if key.partition("/")[0] == path]
        return sorted(names, key=lambda name: (name in NO_PEER, not is_ours(name)))

    def peers(self, path):
        return [name for name in self.names(path) if not is_ours(name) and name not in NO_PEER]

    def values(self, path, name, measure, key):
        """One value per round in which it succeeded."""
        rounds = self.figures.get(f"{path}/{name}", {}).get(measure, [])
        return [value for one in rounds if (value := reading(one, key)) is not None]

    def median(self, path, name, measure, key):
        values = self.values(path, name, measure, key)
        return statistics.median(values) if values else None

    def was_tried(self, path, name, measure):
        tried = self.figures.get(f"{path}/{name}", {})
        return measure in tried or "start" in tried

    def ratios(self, path, name, other, measure, key):
        """How the two compare, in each round in which both succeeded."""
        rounds = [self.figures.get(f"{path}/{one}", {}).get(measure, []) for one in (name, other)]
        mine, theirs = ({one["round"]: value for one in all if (value := reading(one, key))} for all in rounds)
        return [mine[number] / theirs[number] for number in mine if number in theirs]

    def errors(self, path, name):
        """What went wrong, by measure, with how often."""
        found = {}
        for measure, rounds in self.figures.get(f"{path}/{name}", {}).items():
            for one in rounds:
                if "error" in one:
                    found.setdefault((measure, one["error"]), []).append(one)
        return [(measure, error, len(times)) for (measure, error), times in found.items()]

    def memory(self, path, name, count):
        """Resident bytes of all programs with so many idle sessions."""
        rounds = self.figures.get(f"{path}/{name}", {}).get("memory", [])
        values = [sum(one["sessions"][str(count)]) for one in rounds if str(count) in one["sessions"]]
        return statistics.median(values) if values else None

    def per_session(self, path, name, count=None):
        """Bytes that one idle session adds, at `count` sessions or at the most that it reached."""
        empty = self.memory(path, name, 0)
        for level in [count] if count else reversed(self.levels):
            full = self.memory(path, name, level)
            if level and full is not None and empty is not None:
                return max(full - empty, 1) / level
        return None

    def memory_compared(self, path, ours, names):
        """Our bytes per session, the leanest peer and its, at the highest count that we and a peer reached."""
        for count in reversed(self.levels):
            mine = self.per_session(path, ours, count) if count else None
            each = [(value, name) for name in names if count and (value := self.per_session(path, name, count))]
            if mine and each:
                theirs, name = min(each)
                return count, mine, name, theirs
        return None, None, "/".join(names), None


def is_ours(name):
    return name.startswith("magicalane")


def reading(one, key):
    if "error" in one:
        return None
    if key == "cpu_per_gigabyte":
        return one["cpu_seconds"] / one["bytes"] * 1e9
    if key == "cpu_per_session":
        return one["cpu_seconds"] / one["sessions"] * 1e6
    return one.get(key)


# Head, measure, key, whether more is better.
COLUMNS = [
    ("download MB/s", "download", "megabytes_per_second", True),
    ("CPU s/GB", "download", "cpu_per_gigabyte", False),
    ("upload MB/s", "upload", "megabytes_per_second", True),
    ("CPU s/GB", "upload", "cpu_per_gigabyte", False),
    ("8× down MB/s", "download8", "megabytes_per_second", True),
    ("CPU s/GB", "download8", "cpu_per_gigabyte", False),
    ("echo p50 ms", "echo", "p50_ms", False),
    ("echo p99 ms", "echo", "p99_ms", False),
    ("echoes/s", "echo", "echoes_per_second", True),
    ("sessions/s", "connections", "sessions_per_second", True),
    ("CPU µs/session", "connections", "cpu_per_session", False),
]
DOWN, DOWN_CPU, UP, UP_CPU, EIGHT, EIGHT_CPU, P50, P99, ECHOES, SESSIONS, SESSION_CPU = range(len(COLUMNS))

# Path, columns, against whom (None: the best peer on the path), the ratio to reach.
GOALS = [
    ("direct", [DOWN, UP, EIGHT], ["sing-box"], 1.1),
    ("direct", [DOWN_CPU, UP_CPU, EIGHT_CPU], ["sing-box"], 0.9),
    ("tls", [DOWN, UP, EIGHT], ["envoy h2"], 1.1),
    ("quic", [DOWN, UP, EIGHT], ["hysteria2", "tuic cubic", "tuic bbr"], 1.5),
    ("quic", [DOWN, UP, EIGHT], ["ngtcp2 alone"], 0.75),
    ("direct", [SESSIONS], ["sing-box"], 1.2),
    ("tls", [SESSIONS], ["trojan"], 2.0),
    ("quic", [SESSIONS], ["tuic cubic", "tuic bbr"], 1.3),
    ("direct", [P50, P99], None, 1.0),
    ("tls", [P50, P99], None, 1.0),
    ("quic", [P50, P99], None, 1.0),
]
# Path, and whose memory per session is to be halved.
MEMORY_GOALS = [("direct", ["sing-box"]), ("tls", ["sing-box trojan"]),
                ("quic", ["hysteria2", "tuic cubic", "tuic bbr"])]
MEMORY_RATIO = 0.5


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell(values):
    """The median, and half the distance from the least to the greatest as a share of it."""
    if not any(values):
        return "–"
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / 2 / middle * 100 if middle else 0
    return number(middle) + (f" ±{spread:.0f}%" if len(values) > 1 else "")


def row(cells):
    return "| " + " | ".join(cells) + " |"


def absolute(figures, path):
    yield row(["", *(column[0] for column in COLUMNS)])
    yield "|---|" + "--:|" * len(COLUMNS)
    for name in figures.names(path):
        failed = {measure for measure, _, _ in figures.errors(path, name)}
        cells = []
        for _, measure, key, _ in COLUMNS:
            values = figures.values(path, name, measure, key)
            cells.append("**failed**" if not values and failed & {measure, "start"} else cell(values))
        yield row([f"**{name}**" if is_ours(name) else name, *cells])
    for name in figures.names(path):
        for measure, error, times in figures.errors(path, name):
            yield f"\n{name}, {measure}, failed {times}×: {error}"


def memory(figures):
    levels = figures.levels
    yield row(["", *(f"{count:,} sessions, MB" for count in levels), "KB per session"])
    yield "|---|" + "--:|" * (len(levels) + 1)
    for path in PATHS:
        for name in figures.names(path):
            if name in NO_PEER or figures.memory(path, name, 0) is None:
                continue
            values = [figures.memory(path, name, count) for count in levels]
            each = figures.per_session(path, name)
            cells = ["**failed**" if value is None else f"{value / 1e6:.1f}" for value in values]
            yield row([f"{path}: {name}", *cells, "–" if each is None else f"{each / 1e3:.1f}"])


def best(figures, path, names, measure, key, more):
    """The name and the median of the best of some peers."""
    medians = [(value, name) for name in names if (value := figures.median(path, name, measure, key))]
    if not medians:
        return None, None
    value, name = (max if more else min)(medians)
    return name, value


def verdict(ratio, goal, more):
    return "reached" if (ratio >= goal if more else ratio <= goal) else "**not reached**"


def ratios(figures, ours):
    yield row(["path", "what", ours, "against", "its value", "ratio", "to reach", ""])
    yield "|---|---|--:|---|--:|--:|--:|---|"
    for path, columns, names, goal in GOALS:
        for column in columns:
            head, measure, key, more = COLUMNS[column]
            head = f"{measure.replace('8', ' 8×')} {head}" if "CPU" in head else head
            name, theirs = best(figures, path, names or figures.peers(path), measure, key, more)
            if not figures.was_tried(path, ours, measure):
                continue
            mine = figures.median(path, ours, measure, key)
            each = figures.ratios(path, ours, name, measure, key)
            yield goal_row(path, head, mine, name or "/".join(names or ["the best"]), theirs, each, goal, more, number)
    for path, names in MEMORY_GOALS:
        if not figures.was_tried(path, ours, "memory"):
            continue
        count, mine, name, theirs = figures.memory_compared(path, ours, names)
        ratio = [mine / theirs] if mine else []
        what = f"memory per session, at {count:,}" if count else "memory per session"
        yield goal_row(path, what, mine, name, theirs, ratio, MEMORY_RATIO, False, kilobytes)


def kilobytes(value):
    return f"{value / 1e3:.1f} KB"


def goal_row(path, what, mine, name, theirs, ratios, goal, more, show):
    """`ratios` are those of the rounds; their median counts, which a slow minute of the machine leaves alone."""
    sign = "≥" if more else "≤"
    values = [show(value) if value is not None else "–" for value in (mine, theirs)]
    if not ratios:
        return row([path, what, values[0], name, values[1], "–", f"{sign} {goal}", "not measured"])
    ratio = round(statistics.median(ratios), 2)
    text = f"{ratio:.2f}" + (f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else "")
    return row([path, what, values[0], name, values[1], text, f"{sign} {goal}", verdict(ratio, goal, more)])


def short(figures, ours="magicalane"):
    """A table for the README: our median, and its ratio to the peer to beat on that path."""
    yield row(["", *PATHS.values()])
    yield "|---|" + "--:|" * len(PATHS)
    for column in (DOWN, UP, EIGHT, DOWN_CPU, P50, P99, SESSIONS):
        head, measure, key, more = COLUMNS[column]
        cells = []
        for path in PATHS:
            goals = [names for where, columns, names, _ in GOALS if where == path and column in columns]
            # What has no goal on a path is compared with its best peer too.
            name, _ = best(figures, path, (goals[0] if goals else None) or figures.peers(path), measure, key, more)
            mine, ratios = figures.median(path, ours, measure, key), figures.ratios(path, ours, name, measure, key)
            cells.append(short_cell(mine, ratios, name, more, number))
        yield row([f"download {head}" if column == DOWN_CPU else head, *cells])
    cells = []
    for path, names in MEMORY_GOALS:
        _, mine, name, theirs = figures.memory_compared(path, ours, names)
        cells.append(short_cell(mine, [mine / theirs] if mine else [], name, False, kilobytes))
    yield row(["memory per idle session", *cells])


def short_cell(mine, ratios, name, more, show):
    if mine is None or not ratios:
        return "–"
    ratio = round(statistics.median(ratios), 2)
    wins = ratio >= 1 if more else ratio <= 1
    text = f"{ratio:.2f} × {name}"
    return f"{show(mine)}, {f'**{text}**' if wins else text}"


def markdown(figures):
    run = figures.run
    versions = [f"{key.partition('/')[2]} {version}" for key, version in run["versions"].items() if version]
    yield "# Speed\n"
    yield (f"Measured on {run['date']}, all in one run and in turns, {run['seconds']:g} s each: load tool, target and "
           "both ends of each contender share the cores and loopback. Only ratios carry over to another machine. "
           "Each value is the median of the rounds; ± is half the distance from the least to the greatest. A ratio is the "
           "median of the ratios of the rounds, with the least and the greatest. "
           "CPU is that of both ends of the contender.\n")
    yield "Versions: " + ", ".join(dict.fromkeys(versions)) + ".\n"
    if run["absent"]:
        yield "Not installed, and so not measured: " + ", ".join(run["absent"]) + ".\n"
    yield "## Against the peers to beat\n"
    every = [name for path in PATHS for name in figures.names(path) if is_ours(name)]
    for ours in dict.fromkeys(every):
        yield from ratios(figures, ours)
        yield ""
    for path, title in PATHS.items():
        if figures.names(path):
            yield f"## {title}\n"
            yield from absolute(figures, path)
            yield ""
    if figures.levels:
        yield "## Resident memory of both ends with idle sessions\n"
        yield from memory(figures)
        yield ""


def write(raw):
    """Writes the Markdown and the picture beside the raw figures; gives the Markdown."""
    figures = Figures(json.loads(Path(raw).read_text()))
    text = "\n".join(markdown(figures)).rstrip() + "\n"
    Path(raw).with_suffix(".md").write_text(text)
    Path(raw).with_suffix(".svg").write_text(draw(figures, COLUMNS, PATHS))
    return text


BEGIN, END = "<!-- speed: written by Benchmarks/report.py -->", "<!-- end of speed -->"


def put_into(readme, raw):
    """Puts the short table between its marks in the README."""
    figures = Figures(json.loads(Path(raw).read_text()))
    head, _, rest = Path(readme).read_text().partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{readme} has no marks for the table")
    Path(readme).write_text("\n".join([head + BEGIN, "", *short(figures), "", END]) + tail)


if __name__ == "__main__":
    print(write(sys.argv[1]))
    for readme in sys.argv[2:]:
        put_into(readme, sys.argv[1])
