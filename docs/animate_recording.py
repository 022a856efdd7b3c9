"""Draw docs/progress.svg, an animated picture of the recording docs/progress.cast.

`make recording` runs it. Pages of repositories show such a picture, but no recording.
"""

import json
import sys
from html import escape
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.terminals import Screen  # noqa: E402  # needs the path of the line above

CAST, SVG = ROOT / "docs/progress.cast", ROOT / "docs/progress.svg"
FIRST_LINE = "hipparcos_600arcs"  # above the bars; what Snakemake prints before is of no interest
SPEED, FRAME_SECONDS, LAST_SECONDS = 4, 0.25, 4
COLUMN, LINE, EDGE = 7.25, 17, 12
STYLE = """\
rect { fill: #1b1f24 }
text { fill: #d7dde3; font: 12px ui-monospace, Menlo, Consolas, monospace; white-space: pre }
@media (prefers-reduced-motion) { g { animation: none !important } }
"""


def frames(events: list[tuple[float, str]]) -> list[tuple[float, tuple[str, ...]]]:
    """Return the different screens of a recording, each with its time in the picture [s]."""
    screen, screens = Screen(), []
    for time, text in events:
        screen.write(text)
        lines = tuple(screen.lines())
        starts = [number for number, line in enumerate(lines) if line.startswith(FIRST_LINE)]
        if starts:
            screens.append((time / SPEED // FRAME_SECONDS, lines[starts[0] :]))
    last_of_each = [list(group)[-1] for _, group in groupby(screens, key=lambda frame: frame[0])]
    start = last_of_each[0][0]
    return [((number - start) * FRAME_SECONDS, lines) for number, lines in last_of_each]


def draw(events: list[tuple[float, str]], columns: int) -> str:
    """Return the picture: all screens in one column, of which one at a time is seen."""
    screens = frames(events)
    duration = screens[-1][0] + LAST_SECONDS
    rows = max(len(lines) for _, lines in screens)
    width, height = columns * COLUMN + 2 * EDGE, rows * LINE + 2 * EDGE
    steps = "".join(
        f"{100 * time / duration:.2f}% {{ transform: translateY(-{number * height}px) }}\n"
        for number, (time, _) in enumerate(screens)
    )
    last = f"translateY(-{(len(screens) - 1) * height}px)"
    texts = "".join(
        f'<text x="{EDGE}" y="{number * height + EDGE + (row + 0.75) * LINE:g}" '
        f'textLength="{len(line) * COLUMN:g}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(line)}</text>\n"
        for number, (_, lines) in enumerate(screens)
        for row, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">\n'
        f"<style>\n{STYLE}g {{ animation: run {duration:g}s step-end infinite; "
        f"transform: {last} }}\n@keyframes run {{\n{steps}}}\n</style>\n"
        f'<rect width="100%" height="100%" rx="6"/>\n<g>\n{texts}</g>\n</svg>\n'
    )


def picture() -> str:
    """Return the picture of the recording in docs."""
    header, *events = map(json.loads, CAST.read_text(encoding="utf-8").splitlines())
    return draw([(time, text) for time, _, text in events], header["width"])


if __name__ == "__main__":
    SVG.write_text(picture(), encoding="utf-8")
