"""From the figures of the step to a table in Markdown, and a picture of what happened."""

import json
import math
import sys
from pathlib import Path

from crossing import share
from picture import text

COLORS = {"adaptive": "#16a34a", "quic": "#2563eb", "tls": "#ea580c"}
NAMES = {"adaptive": "adaptive", "quic": "QUIC alone", "tls": "TLS alone"}
GOAL = 1.10
# What the table of diagnoses calls for.
BETTER = {False: "tls", True: "quic"}


def summary(phase, name):
    """The figures of a contender in a phase, from when a choice is held to be made: p99, CPU s/GB, MB/s."""
    cycles = [one["figures"][name] for one in phase["cycles"] if one["started"] >= phase["settled"]]
    count = sum(one["bytes"] for one in cycles)
    return {
        "p99": share([each for one in cycles for each in one["each_ms"]], 0.99),
        "cpu": sum(one["cpu_seconds"] for one in cycles) / count * 1e9 if count else None,
        "rate": count / sum(one["seconds"] for one in cycles) / 1e6 if cycles else None,
    }


def ratio(mine, theirs):
    if not mine or not theirs:
        return "–"
    value = mine / theirs
    return f"{value:.2f}" if value <= GOAL else f"**{value:.2f}**"


def show(value, form):
    return "–" if value is None else format(value, form)


def settled_after(results, phase, better):
    """Seconds from the start of a phase until the better member was chosen for good; None where it was not."""
    seen = [(at - phase["started"], member) for at, member in results["choices"]
            if phase["started"] <= at < phase["ended"]]
    if not seen or seen[-1][1] != better:
        return None
    return max((at for at, member in seen if member != better), default=0)


def markdown(results):
    phases = results["phases"]
    names = list(phases[0]["cycles"][0]["figures"])
    alone = [name for name in names if name != "adaptive"]
    yield "# The adaptive transport over a path that changes\n"
    yield (f"{results['rate']} Mbit/s, {results['rtt']:g} ms, loss for each direction; TCP with {results['tcp']}; "
           f"{', '.join(results['keys'])}. For each phase, once the choice is held to be made: the p99 of 64-byte "
           "echoes over 16 new sessions at a time, processor seconds of both programs for a GB of downloads, and their "
           f"MB/s. The ratios are those of adaptive to the member that the path calls for; bold is above {GOAL:.2f}.\n")
    heads = [f"{NAMES[name]}: {what}" for what in ("p99 ms", "CPU s/GB", "MB/s") for name in names]
    more = ["p99 ratio", "CPU ratio", "chosen after s"] if "adaptive" in names and alone else []
    yield "| " + " | ".join(["phase", "better", *heads, *more]) + " |"
    yield "|---|---|" + "--:|" * (len(heads) + len(more))
    for number, phase in enumerate(phases, 1):
        better = BETTER[phase["loss"] > 0]
        found = {name: summary(phase, name) for name in names}
        cells = [show(found[name][key], form) for key, form in (("p99", ".1f"), ("cpu", ".2f"), ("rate", ".2f"))
                 for name in names]
        if more:
            mine, theirs = found["adaptive"], found.get(better, {})
            cells += [ratio(mine["p99"], theirs.get("p99")), ratio(mine["cpu"], theirs.get("cpu")),
                      show(settled_after(results, phase, better), ".1f")]
        yield "| " + " | ".join([f"{number}: {phase['loss']:g} % loss", NAMES[better], *cells]) + " |"
    for one in results["switches"]:
        yield f"\n{one['time']}: {one['previous']} → {one['chosen']}: {one['diagnosis']}. {one['reason']}"
    for name, count in results["overrun"].items():
        if count:
            yield f"\n{NAMES[name]}: the emulated link itself was too slow {count:.0f} times"


LEFT, RIGHT, WIDTH = 70, 20, 900
LINES, STRIP, GAP, TOP = 260, 26, 14, 62


def picture(results):
    """Above what is chosen and the loss; below the p99 of each block of echoes, on a logarithmic scale."""
    phases = results["phases"]
    end = phases[-1]["ended"]
    points = {name: [] for name in phases[0]["cycles"][0]["figures"]}
    for phase in phases:
        for one in phase["cycles"]:
            middle = (one["started"] + one["echoed"]) / 2
            for name in points:
                if one["figures"][name]["each_ms"]:
                    points[name].append((middle, share(one["figures"][name]["each_ms"], 0.99)))
    x = lambda at: LEFT + at / end * (WIDTH - LEFT - RIGHT)  # noqa: E731
    top = TOP + STRIP + GAP
    bottom = top + LINES
    shapes = [text(10, 22, "p99 of 64-byte echoes while the path gets worse and better again", 15, "bold")]
    shapes += legend(points)
    shapes += [shape for phase in phases for shape in band(phase, x, bottom)]
    if results["choices"]:
        shapes.append(text(LEFT - 8, TOP + 17, "chosen", anchor="end"))
        shapes += strip(results["choices"], end, x)
    shapes += scales(points, x, top, bottom, end)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" width="{WIDTH}" '
            f'height="{bottom + 40}" font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(shapes) + "\n</svg>\n")


def legend(points):
    left = LEFT
    for name in points:
        yield f'<rect x="{left}" y="33" width="18" height="4" fill="{COLORS[name]}"/>'
        yield text(left + 24, 40, NAMES[name])
        left += 120


def band(phase, x, bottom):
    """The time of a phase, grey where packets are lost."""
    left, right = x(phase["started"]), x(phase["ended"])
    if phase["loss"]:
        yield (f'<rect x="{left:.1f}" y="{TOP - 12}" width="{right - left:.1f}" height="{bottom - TOP + 12}" '
               'fill="#f1f5f9"/>')
    yield text((left + right) / 2, TOP - 3, f"{phase['loss']:g} % loss", anchor="middle")


def strip(choices, end, x):
    """Which member is chosen, as bars of its color."""
    changes = [now for before, now in zip([(0, None), *choices], choices) if before[1] != now[1]]
    for (at, member), (until, _) in zip(changes, [*changes[1:], (end, None)]):
        left, right = x(at), x(until)
        yield (f'<rect x="{left:.1f}" y="{TOP + 2}" width="{right - left:.1f}" height="{STRIP - 4}" '
               f'fill="{COLORS[member]}"/>')
        if right - left > 40:
            yield (f'<text x="{(left + right) / 2:.1f}" y="{TOP + 18}" font-size="11" fill="white" '
                   f'text-anchor="middle">{member.upper()}</text>')


def scales(points, x, top, bottom, end):
    values = [value for line in points.values() for _, value in line]
    low, high = math.log10(min(values) * 0.8), math.log10(max(values) * 1.25)
    y = lambda value: bottom - (math.log10(value) - low) / (high - low) * (bottom - top)  # noqa: E731
    for mark in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        if low <= math.log10(mark) <= high:
            yield (f'<line x1="{LEFT}" y1="{y(mark):.1f}" x2="{WIDTH - RIGHT}" y2="{y(mark):.1f}" '
                   'stroke="#e2e8f0"/>')
            yield text(LEFT - 8, y(mark) + 4, f"{mark} ms", anchor="end")
    for at in range(0, int(end) + 1, 30):
        yield text(x(at), bottom + 18, f"{at} s", anchor="middle")
    # Last what is to be seen above the others.
    for name in sorted(points, key=lambda name: name == "adaptive"):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points[name])
        width = 2.5 if name == "adaptive" else 1.5
        yield (f'<polyline points="{path}" fill="none" stroke="{COLORS[name]}" stroke-width="{width}" '
               'stroke-linejoin="round"/>')


def write(raw, drawing):
    """Writes the Markdown beside the raw figures, and the picture; gives the Markdown."""
    results = json.loads(Path(raw).read_text())
    words = "\n".join(markdown(results)).rstrip() + "\n"
    Path(raw).with_suffix(".md").write_text(words)
    Path(drawing).parent.mkdir(parents=True, exist_ok=True)
    Path(drawing).write_text(picture(results))
    return words


if __name__ == "__main__":
    print(write(*sys.argv[1:]))
