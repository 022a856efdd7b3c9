"""Make the same margins with the workflow and with its peers, in turn and on the same cores.

Prints a table for each sky: wall and CPU time, the largest process, what was read, the rows
written, how many rows within the threshold are missing, and how many others are extra. Figures are
medians; ratios are to the workflow. Files are in the system's memory before each run, so no tool
waits for the disk. The skies are kept for the next time, and so are the peers' environments.

    make benchmark
    make benchmark ARGS='--skies survey survey_arrow plain large large_arrow wide wide_arrow many'
    make benchmark ARGS='--skies dense dense_arrow'

The second takes an hour or more, and some 30 GB of disk.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from library import ROOT, provenance
from support.measuring import Usage, measure
from support.peer_environments import PEERS, peer_python, users_python

OURS = "this workflow"


@dataclass(frozen=True)
class Case:
    """A sky on disk, of which margins are made.

    Attributes:
        name: of the sky.
        directory: of the sky.
        threshold: of the margin, in arcsec.
        cores: that each tool has.
        about: numbers of rows, columns, partitions and megabytes.
    """

    name: str
    directory: Path
    threshold: float
    cores: int
    about: Mapping[str, int]

    @property
    def hats(self) -> Path:
        return self.directory / "hats" / self.name

    @property
    def hipscat(self) -> Path:
        return self.directory / "hipscat" / self.name


@dataclass(frozen=True)
class Score:
    """The rows of a margin; and in the margins of partitions, missing rows and extra ones."""

    rows: int
    missing: int
    extra: int


Command = Callable[[Case, Path], list[str | Path]]


def workflow(catalog: Path, case: Case, place: Path) -> list[str | Path]:
    """The command with which the workflow makes a margin in a place."""
    return [
        *(users_python().with_name("snakemake"), "--snakefile", ROOT / "Snakefile"),
        *("--directory", place.parent, "--cores", str(case.cores), "--config"),
        *(f"input_catalog_path={catalog}", f"output_path={place.parent}"),
        *(f"output_artifact_name={place.name}", f"margin_threshold={case.threshold:g}"),
    ]


def acid(case: Case, place: Path) -> list[str | Path]:
    """ACID's command."""
    return [
        *(peer_python("acid").with_name("acid"), "hats", "build-margin", case.hats),
        *("--margin-arcsec", f"{case.threshold:g}", "--workers", str(case.cores)),
        *("--output", place),
    ]


def hats_import(case: Case, place: Path) -> list[str | Path]:
    """The command of hats-import."""
    return [
        *(peer_python("hats-import"), PEERS / "run_hats_import.py", "--input", case.hats),
        *("--output", place.parent, "--name", place.name),
        *("--threshold", f"{case.threshold:g}", "--workers", str(case.cores)),
    ]


def hipscat_import(case: Case, place: Path) -> list[str | Path]:
    """The command of hipscat-import."""
    return [
        *(peer_python("hipscat-import"), PEERS / "run_hipscat_import.py"),
        *("--input", case.hipscat, "--output", place),
        *("--threshold", f"{case.threshold:g}", "--workers", str(case.cores)),
    ]


def read_all(case: Case, place: Path) -> list[str | Path]:
    """The command that reads all there is, with one thread, and makes nothing."""
    return [sys.executable, ROOT / "benchmarks" / "read_all.py", case.hats]


TOOLS: dict[str, Command] = {
    OURS: lambda case, place: workflow(case.hats, case, place),
    "this workflow, HiPSCat": lambda case, place: workflow(case.hipscat, case, place),
    "bare read": read_all,
    "ACID": acid,
    "hats-import": hats_import,
    "hipscat-import": hipscat_import,
}

# The others take minutes on a sky of 288 partitions, and far longer on one of 2,352 or of 4 GB.
FAST_TOOLS = [OURS, "bare read", "ACID"]
SMALL_SKIES = ("small", "small_arrow", "survey", "survey_arrow", "plain")

MAKE_SKY = ROOT / "benchmarks" / "benchmark_skies.py"


def sky_called(name: str, directory: Path, cores: int) -> Case:
    """A sky that has been made in a directory of skies."""
    sky = (directory / name).resolve()
    about = json.loads((sky / "sky.json").read_text())
    return Case(name, sky, about.pop("threshold"), cores, about)


def score(case: Case, place: Path) -> Score:
    """Compare a margin with the truth, in a process of its own for its memory's sake."""
    code = (
        "import json, sys, pathlib; from support import benchmark_skies\n"
        "print(json.dumps(benchmark_skies.judge(*map(pathlib.Path, sys.argv[1:]))))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(case.directory), str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        check=True,
        stdout=subprocess.PIPE,
    )
    return Score(*json.loads(said.stdout))


def warm_up(case: Case) -> None:
    """Have the system hold the catalog in memory, so that no tool waits for the disk."""
    buffer = bytearray(1 << 20)
    for file in case.directory.glob("h*/**/Npix=*.parquet"):
        with file.open("rb", buffering=0) as raw:
            while raw.readinto(buffer):
                pass


def compare(
    case: Case, tools: list[str], repeat: int, scratch: Path
) -> dict[str, tuple[list[Usage], Score]]:
    """Run each tool on a sky, one after the other, and all of them again and again.

    Returns:
        for each tool what each run took, and what the margin holds.
    """
    usages: dict[str, list[Usage]] = {tool: [] for tool in tools}
    scores: dict[str, Score] = {}
    for number in range(repeat):
        for tool in tools:
            place = scratch / "run" / "margin"
            shutil.rmtree(place.parent, ignore_errors=True)
            place.parent.mkdir(parents=True)
            command = TOOLS[tool](case, place)
            warm_up(case)
            usages[tool].append(measure(command, place.parent))
            found = score(case, place)
            if scores.setdefault(tool, found) != found:
                sys.exit(f"{tool} made another margin of {case.name} this time")
            wall = usages[tool][-1].wall
            print(f"{case.name}, {number + 1} of {repeat}, {tool}: {wall:.1f} s", file=sys.stderr)
    shutil.rmtree(scratch / "run", ignore_errors=True)
    return {tool: (usages[tool], scores[tool]) for tool in tools}


def median(usages: list[Usage]) -> Usage:
    """The median of each figure."""
    figures = [asdict(usage) for usage in usages]
    return Usage(**{key: statistics.median(each[key] for each in figures) for key in figures[0]})


HEADER = (
    "| sky | | wall s | CPU s | wall, ratio | CPU, ratio | largest process MB | read MB "
    "| rows | missing | extra |\n|---|---|" + 9 * "---:|"
)


def lines_of(name: str, found: Mapping[str, tuple[list[Usage], Score]]) -> str:
    """The figures of a sky, as lines of a table in Markdown."""
    lines = []
    ours = median(found[OURS][0])
    for tool, (usages, margin) in found.items():
        usage = median(usages)
        rows = ["", "", ""] if tool == "bare read" else asdict(margin).values()
        cells = [
            *(name, tool, f"{usage.wall:.1f}", f"{usage.cpu:.1f}"),
            *(f"{usage.wall / ours.wall:.2f}", f"{usage.cpu / ours.cpu:.2f}"),
            *(f"{usage.peak_mb:,.0f}", f"{usage.read_mb:,.0f}"),
            *(f"{count:,}" if count != "" else "" for count in rows),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: Mapping[str, Mapping[str, Usage]], path: Path) -> None:
    """Draw the wall times of all tools on all skies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(results), figsize=(7, 0.6 + sum(0.35 * len(r) + 0.7 for r in results.values())),
        height_ratios=[len(found) + 1 for found in results.values()], squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (name, found) in zip(axes[:, 0], results.items(), strict=True):
        walls = [usage.wall for usage in found.values()]
        colours = ["C0" if tool.startswith(OURS) else "0.7" for tool in found]
        bars = axis.barh(list(found), walls, color=colours)
        axis.bar_label(bars, [f"{wall:.1f} s" for wall in walls], padding=3)
        axis.set(title=name, xlim=(0, 1.15 * max(walls)))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("wall time [s], median")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skies", nargs="+", default=["small", "many"])
    parser.add_argument("--tools", nargs="+", choices=TOOLS, help="default: all, or the fast ones")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=ROOT / "benchmarks" / "skies")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    medians = {}
    told = f"{provenance()}\n{HEADER}"
    for name in arguments.skies:
        made = subprocess.run([sys.executable, MAKE_SKY, name, arguments.directory], check=False)
        if made.returncode:
            sys.exit(made.returncode)
        case = sky_called(name, arguments.directory, arguments.cores)
        tools = arguments.tools or (list(TOOLS) if name in SMALL_SKIES else FAST_TOOLS)
        if OURS not in tools:
            tools = [OURS, *tools]
        found = compare(case, tools, arguments.repeat, arguments.directory)
        medians[name] = {tool: median(usages) for tool, (usages, _) in found.items()}
        told += f"\n{lines_of(name, found)}"
        (arguments.out / "benchmark.md").write_text(f"{told}\n", encoding="utf-8")
    print(f"\n{told}")
    draw(medians, arguments.out / "benchmark.png")
    print(f"\nThe table and a plot of it are in {arguments.out}")


if __name__ == "__main__":
    main()
