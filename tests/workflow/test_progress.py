"""How far a run is can be seen: on a terminal by bars, elsewhere by few lines."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.full_disks import mounted
from support.paths import ROOT
from support.small_skies import small_catalog
from support.terminals import Output, run_in_terminal
from support.workflow_runs import (
    SNAKEMAKE,
    ForkedSnakemake,
    environment,
    run_workflow,
    write_config,
)

DEMO = ROOT / "demo/hipparcos"
STAGES = ("Planning", "Mapping", "Reducing", "Finishing")
BAR = re.compile(r"  (\w+) +(\d+)%\|.*\| (\d+)/(\d+) (\w+) \[")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog(tmp_path / "sky", rows=600, max_rows=100)


def configuration(catalog: Path, **more: Any) -> dict[str, Any]:
    threshold = {"margin_threshold": 60.0, "partitions_per_job": 3}
    return {"input_catalog_path": catalog, **threshold, **more}


def run_on_terminal(directory: Path, config: dict[str, Any], *arguments: str) -> Output:
    directory.mkdir(exist_ok=True)
    write_config(directory, config)
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "--directory", directory, "--cores", "2"]
    words = [*command, *arguments]
    return run_in_terminal(words, environment(), start=ForkedSnakemake)


def bars(screen: list[str]) -> dict[str, tuple[int, int, int, str]]:
    """Percentage, count, total and unit of the bars that are seen, by their stages."""
    found = filter(None, map(BAR.match, screen))
    return {m[1]: (int(m[2]), int(m[3]), int(m[4]), m[5]) for m in found}


def partitions_of(catalog: Path) -> int:
    return len(list(catalog.rglob("Npix=*.parquet")))


def test_bars_count_partitions_and_pixels_to_the_end(tmp_path: Path, catalog: Path):
    output = run_on_terminal(tmp_path / "run", configuration(catalog))
    assert output.code == 0, output.text
    partitions = partitions_of(catalog)
    seen = output.screens()
    at_end = bars(seen[-1])
    assert tuple(at_end) == STAGES
    assert {percentage for percentage, *_ in at_end.values()} == {100}
    assert at_end["Mapping"] == (100, partitions, partitions, "partitions")
    pixels = at_end["Reducing"][2]
    assert at_end["Reducing"] == (100, pixels, pixels, "pixels") and pixels >= partitions
    counts = [bars(screen)["Mapping"][1] for screen in seen if "Mapping" in bars(screen)]
    assert counts == sorted(counts)
    lines = [line for line in seen[-1] if line.startswith("  Mapping")]
    assert re.search(r"(\d[\d.]* kB) of \1", lines[0])
    # Nothing of what Snakemake says of each job is drawn between them.
    assert "Select jobs" not in output.text and "jobid" not in output.text
    first = next(n for n, line in enumerate(seen[-1]) if line.startswith("  Planning"))
    assert seen[-1][first - 1] == "sky_60arcs"
    opens = next(n for n, line in enumerate(seen[-1]) if "hipscat.read_from_hipscat(" in line)
    assert seen[-1][opens - 1].endswith("within 60 arcsec")


def test_an_audit_has_a_bar_that_counts_partitions(tmp_path: Path, catalog: Path):
    config = configuration(catalog, partitions_per_job=8)
    run_workflow(tmp_path / "run", config=config, check=True)
    output = run_on_terminal(tmp_path / "run", config, "audit")
    assert output.code == 0, output.text
    screen = output.screens()[-1]
    count = partitions_of(catalog)
    assert bars(screen) == {
        "Planning": (100, count, count, "partitions"),
        "Auditing": (100, count, count, "partitions"),
    }
    assert any(line == "audit: results/sky_60arcs is clean" for line in screen)


def test_margins_of_a_run_share_their_bars(tmp_path: Path, catalog: Path):
    margins = [{"margin_threshold": 30.0}, {}]
    output = run_on_terminal(
        tmp_path / "run", configuration(catalog, margins=margins, partitions_per_job=50)
    )
    screen = output.screens()[-1]
    at_end = bars(screen)
    assert tuple(at_end) == STAGES
    count = partitions_of(catalog)  # mapped once for both
    assert at_end["Mapping"] == (100, count, count, "partitions")
    # The job that reduces the other margin finishes it too.
    assert at_end["Reducing"][1] == at_end["Reducing"][2] == 2 * at_end["Finishing"][2]
    assert "2 margins" in screen


def test_bars_continue_after_a_job_has_failed(tmp_path: Path, catalog: Path):
    *_, damaged = sorted(catalog.rglob("Npix=*.parquet"))
    whole = tmp_path / "whole.parquet"
    shutil.copy2(damaged, whole)
    content = bytearray(whole.read_bytes())
    content[4:400] = bytes(396)  # pages of the first columns
    damaged.write_bytes(content)
    config = configuration(catalog)
    failed = run_on_terminal(tmp_path / "run", config, "--keep-going")
    assert failed.code == 1
    screen = failed.screens()[-1]
    at_end = bars(screen)
    assert 0 < at_end["Mapping"][1] < at_end["Mapping"][2]
    last_bar = max(number for number, line in enumerate(screen) if BAR.match(line))
    said = [
        n for n, line in enumerate(screen) if line.startswith("error: ") and damaged.name in line
    ]
    assert len(said) == 2 and said[0] < last_bar < said[1], "\n".join(screen)
    assert any(re.match(r"mapping \d/\d+( to|$)", line) for line in screen)

    damaged.write_bytes(whole.read_bytes())
    resumed = run_on_terminal(tmp_path / "run", config)
    assert resumed.code == 0
    first = next(found for screen in resumed.screens() if "Finishing" in (found := bars(screen)))
    assert first["Mapping"][1:3] == at_end["Mapping"][1:3]
    assert first["Reducing"][1] == at_end["Reducing"][1]
    assert {found[0] for found in bars(resumed.screens()[-1]).values()} == {100}


@pytest.mark.parametrize("option", [["--quiet", "all"], []])
def test_without_a_terminal_errors_are_shown_and_bars_are_not(
    tmp_path: Path, catalog: Path, option: list[str]
):
    *_, damaged = sorted(catalog.rglob("Npix=*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-200] + bytes(200))
    run = run_workflow(tmp_path / "run", *option, config=configuration(catalog))
    assert run.returncode == 1
    assert [line for line in run.stdout.splitlines() if line.startswith("error: ")]
    assert "%|" not in run.stdout


def test_many_jobs_leave_few_lines(tmp_path: Path, catalog: Path):
    run = run_workflow(tmp_path / "run", config=configuration(catalog), check=True)
    jobs = re.findall(r"^(?:map_partitions|reduce_margins) +(\d+)$", run.stdout, re.MULTILINE)
    assert sum(map(int, jobs)) > 8
    after = run.stdout.partition("Job stats:")[2].splitlines()
    assert len(after) < 20, run.stdout
    assert "jobid" not in run.stdout
    (log,) = (tmp_path / "run/.snakemake/log").glob("*.log")
    assert log.read_text().count("Finished jobid") == sum(map(int, jobs)) + 2


def test_without_bars_a_line_describes_each_job(tmp_path: Path, catalog: Path):
    config = configuration(catalog, progress_bar=False)
    output = run_on_terminal(tmp_path / "run", config)
    assert output.code == 0
    assert "%|" not in output.text
    said = re.findall(
        r": (Mapping|Reducing) sky_60arcs, job \d{5}: (\d/\d+ to \d/\d+)", output.text
    )
    mapped = {f"mapping {pixels}" for stage, pixels in said if stage == "Mapping"}
    assert len(mapped) > 2 and len(said) > len(mapped) + 2, output.text
    logs = tmp_path.glob("run/intermediate/*/*/logs/map_partitions/*.log")
    assert mapped <= {log.read_text().splitlines()[0] for log in logs}


def test_a_run_forecasts_rows_and_disk_space(tmp_path: Path):
    config = {"input_catalog_path": DEMO, "margin_threshold": 600.0}
    dry = run_workflow(tmp_path, "--dry-run", config=config, check=True)
    run = run_workflow(tmp_path, check=True)
    for output in (dry.stdout, run.stdout):
        assert "  84 partitions; up to 84 pixels get margin rows\n" in output
        found = re.search(r"  about (\d+) rows and ([\d.]+) MB are expected", output)
        assert 0.9 < int(found[1]) / 3350 < 1.1
        margin = tmp_path / "results/hipparcos_600arcs"
    size = sum(path.stat().st_size for path in margin.rglob("*") if path.is_file())
    assert 0.5 < float(found[2]) * 1e6 / size < 2
    assert re.search(r"  output_path and tmp_dir: about [\d.]+ MB are needed, .* are free", output)
    assert "are expected" not in run_workflow(tmp_path, check=True).stdout


def test_a_margin_larger_than_the_free_disk_space_is_refused(tmp_path: Path):
    disk = tmp_path / "disk"
    config = {"input_catalog_path": DEMO, "margin_threshold": 3600.0, "output_path": disk}
    with mounted(disk, "size=600k"):
        runs = [run_workflow(tmp_path / "run", *option, config=config) for option in ([], ["-n"])]
    for run in runs:
        assert run.returncode == 1
        line = run.stdout.rstrip().splitlines()[-1]
        assert line.startswith(f"error: output_path: {disk} has "), run.stdout
        assert "rule map_partitions" not in run.stdout


def test_the_recording_in_docs_shows_a_whole_run():
    header, *events = map(json.loads, (ROOT / "docs/progress.cast").read_text().splitlines())
    assert header["version"] == 2
    times = [time for time, _, _ in events]
    assert times == sorted(times)
    seen = Output(0, [(time, text) for time, _, text in events]).screens()
    assert {percentage for percentage, *_ in bars(seen[-1]).values()} == {100}
    assert tuple(bars(seen[-1])) == STAGES
    assert "results/hipparcos_600arcs: 3350 rows in 84 files, within 600 arcsec" in seen[-1]
