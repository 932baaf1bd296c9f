"""The figures of a run as bars, in plain SVG."""

from html import escape

SHOWN = ["download MB/s", "upload MB/s", "8× down MB/s", "echo p99 ms", "sessions/s"]
WIDTH, NAME, GAP, BAR, STEP, TITLE = 230, 110, 24, 14, 19, 30
OURS, THEIRS, NEUTRAL = "#2563eb", "#94a3b8", "#d6d3d1"


def draw(figures, columns, paths):
    shown = [column for column in columns if column[0] in SHOWN]
    shapes, top = [], 10
    for path, title in paths.items():
        names = figures.names(path)
        if not names:
            continue
        shapes.append(text(10, top + 16, title, size=15, weight="bold"))
        top += TITLE
        for index, column in enumerate(shown):
            left = 10 + NAME + index * (WIDTH + GAP)
            shapes += bars(figures, path, names, column, left, top)
        shapes += [
            text(NAME + 2, top + 30 + row * STEP, name, anchor="end") for row, name in enumerate(names)
        ]
        top += TITLE + len(names) * STEP + 14
    width = 20 + NAME + len(shown) * (WIDTH + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(shapes) + "\n</svg>\n"
    )


def bars(figures, path, names, column, left, top):
    head, measure, key, more = column
    medians = [figures.median(path, name, measure, key) for name in names]
    # What is no proxy would make all the others small.
    known = [value for name, value in zip(names, medians) if value and name != "no proxy"]
    greatest = max(known, default=1)
    yield text(left, top + 12, f"{head} ({'more' if more else 'less'} is better)", size=11, weight="bold")
    for row, (name, value) in enumerate(zip(names, medians)):
        y = top + 20 + row * STEP
        if not value:
            yield text(left, y + 11, "–")
            continue
        length = min(value / greatest, 1) * (WIDTH - 50)
        color = OURS if name.startswith("magicalane") else NEUTRAL if name == "no proxy" else THEIRS
        yield f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{color}"/>'
        yield text(left + length + 4, y + 11, f"{value:,.0f}" if value >= 100 else f"{value:.3g}")


def text(x, y, words, size=11, weight="normal", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(words)}</text>')
