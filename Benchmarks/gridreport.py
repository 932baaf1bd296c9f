"""From the figures of the grid to a table in Markdown, and a picture of the ratios."""

import json
import sys
from pathlib import Path

from picture import text

OURS, TLS = "magicalane quic", "magicalane tls"
SPEED_GOAL, ECHO_GOAL, LINK_GOAL = 0.95, 1.05, 0.95


def best(cell, key, choose):
    """The best of the peers, None where none succeeded."""
    values = [one[key] for name, one in cell.items() if name not in (OURS, TLS) and key in one]
    return choose(values) if values else None


def compare(cell):
    """Our ratios to the best peer: of the speed, and of the echo's p99; None where one is missing."""
    mine = cell.get(OURS, {})
    pairs = [(mine.get(key), best(cell, key, choose))
             for key, choose in (("megabytes_per_second", max), ("echo_p99_ms", min))]
    return [ours / theirs if ours is not None and theirs else None for ours, theirs in pairs]


def order(name):
    return [float(part) for part in name.split("/")]


def show(one):
    if not one:
        return "–"
    if "error" in one:
        return "**failed**"
    return f"{one['megabytes_per_second']:.2f}; {one['echo_p99_ms']:.0f}"


def ratio(value, goal, more):
    if value is None:
        return "–"
    return f"{value:.2f}" if (value >= goal if more else value <= goal) else f"**{value:.2f}**"


def markdown(results):
    names = list(dict.fromkeys(name for cell in results.values() for name in cell))
    names.sort(key=lambda name: (name != OURS, name != TLS))
    yield "# The grid: slow, long and lossy links\n"
    yield ("For each link one download in MB/s, and the p99 of 64-byte echoes over 16 streams in ms, measured "
           "before it on the idle link. Ratios are those of magicalane's QUIC to the best peer in the cell; bold is what "
           f"misses its goal: speed ≥ {SPEED_GOAL}, p99 ≤ {ECHO_GOAL}, and ≥ {LINK_GOAL:.0%} of the link carried "
           "where nothing is lost. Loss is for each direction.\n")
    heads = ["Mbit/s", "RTT ms", "loss %", *names, "speed ratio", "p99 ratio", "link used"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "--:|" * len(heads)
    notes = []
    for name in sorted(results, key=order):
        cell = results[name]
        speed, echo = compare(cell)
        share = cell.get(OURS, {}).get("link_share")
        goal = LINK_GOAL if order(name)[2] == 0 else 0
        used = "–" if share is None else f"{share:.0%}" if share >= goal else f"**{share:.0%}**"
        cells = [*name.split("/"), *(show(cell.get(one)) for one in names),
                 ratio(speed, SPEED_GOAL, True), ratio(echo, ECHO_GOAL, False), used]
        yield "| " + " | ".join(cells) + " |"
        for one, result in cell.items():
            if "error" in result:
                notes.append(f"{name}, {one}, failed: {result['error']}")
            elif result["link_overrun"]:
                notes.append(f"{name}, {one}: the emulated link itself was too slow {result['link_overrun']:.0f} times")
    for note in notes:
        yield f"\n{note}"


BOX, HIGH = 92, 34


def picture(results):
    """One box per cell with the ratio of the speed above that of the p99, green where both reach their goals."""
    shapes, rates = [], sorted({order(name)[0] for name in results})
    trips = sorted({order(name)[1] for name in results})
    losses = sorted({order(name)[2] for name in results})
    for block, rate in enumerate(rates):
        top = 46 + block * (len(trips) * (HIGH + 4) + 44)
        shapes.append(text(10, top - 22, f"{rate:g} Mbit/s", size=14, weight="bold"))
        shapes += [text(100 + i * (BOX + 4), top - 6, f"{loss:g} % loss") for i, loss in enumerate(losses)]
        for row, trip in enumerate(trips):
            y = top + row * (HIGH + 4)
            shapes.append(text(10, y + 20, f"{trip:g} ms"))
            for column, loss in enumerate(losses):
                cell = results.get(f"{rate:g}/{trip:g}/{loss:g}", {})
                shapes += box(100 + column * (BOX + 4), y, *compare(cell))
    width, height = 110 + len(losses) * (BOX + 4), 30 + len(rates) * (len(trips) * (HIGH + 4) + 44)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(shapes) + "\n</svg>\n")


def box(x, y, speed, echo):
    if speed is None or echo is None:
        color = "#e7e5e4"
    else:
        missed = (speed < SPEED_GOAL) + (echo > ECHO_GOAL)
        color = ["#bbf7d0", "#fde68a", "#fecaca"][missed]
    yield f'<rect x="{x}" y="{y}" width="{BOX}" height="{HIGH}" fill="{color}"/>'
    yield text(x + 6, y + 14, "–" if speed is None else f"speed {speed:.2f}")
    yield text(x + 6, y + 28, "–" if echo is None else f"p99 {echo:.2f}")


def write(raw):
    """Writes the Markdown and the picture beside the raw figures; gives the Markdown."""
    results = json.loads(Path(raw).read_text())
    words = "\n".join(markdown(results)).rstrip() + "\n"
    Path(raw).with_suffix(".md").write_text(words)
    Path(raw).with_suffix(".svg").write_text(picture(results))
    return words


if __name__ == "__main__":
    print(write(sys.argv[1]))
