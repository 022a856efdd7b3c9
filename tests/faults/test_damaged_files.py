"""Bits and blocks of files that are damaged: of a catalog, and of what is between the stages.

A margin of a damaged catalog has the rows and values that PyArrow reads in it, or there is none.
Each case is a process of its own, so that one which an interpreter does not survive counts too.
"""

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damage import DAMAGES, damage
from support.faults import (
    CLEAR_ERROR,
    SEED,
    SURVIVED,
    Tally,
    number,
    outcome_after,
    outcome_of,
    outcome_of_end,
)
from support.faulty_margins import (
    Site,
    as_pyarrow_reads,
    make_by_polars,
    make_margin,
    rows_of,
    run_in_child,
    small_site,
)
from support.margins import NAME

WRITTEN = {
    "plain": {"compression": "none", "use_dictionary": False},
    "snappy": {"compression": "snappy", "row_group_size": 25},
    "as hats": {
        "compression": "zstd",
        "use_dictionary": ["mag", "id"],
        "column_encoding": {
            "ra": "BYTE_STREAM_SPLIT",
            "dec": "BYTE_STREAM_SPLIT",
            "_hipscat_index": "DELTA_BINARY_PACKED",
        },
        "write_page_index": True,
    },
    "checksums": {"compression": "snappy", "write_page_checksum": True, "data_page_version": "2.0"},
}


def rewrite(site: Site, **options: object) -> None:
    """Write all partitions of a site's catalog again, by other options."""
    for path in (site.directory / "sky").rglob("Npix=*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(), path, **options)
    for name in ("_metadata", "_common_metadata"):
        (site.directory / "sky" / name).unlink()


@pytest.fixture(scope="module", params=WRITTEN)
def written(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Site:
    site = small_site(tmp_path_factory.mktemp("damaged") / "site", partitions_per_job=50)
    rewrite(site, **WRITTEN[request.param])
    return site


def test_damaged_partitions_make_no_wrong_margin(
    written: Site,
    tally: Callable[[str], Tally],
    tmp_path: Path,
) -> None:
    """Rows by Polars, as of large files, in every second case."""
    counted = tally("damaged input, partitions")
    paths = sorted((written.directory / "sky").rglob("Npix=*.parquet"))
    rng = random.Random(f"{SEED} partitions")
    for case in range(number(5, 500)):
        site = written.copy(tmp_path / "site")
        partition = site.directory / rng.choice(paths).relative_to(written.directory)
        how = rng.choice(list(DAMAGES))
        what = damage(partition, how, rng)
        if case % 2:
            code, said = make_by_polars(site)
        else:
            code, said = run_in_child(lambda site=site: make_margin(site))
        outcome = outcome_of_end(code, said)
        if not outcome and is_readable(partition):
            outcome = outcome_of(
                lambda site=site, path=partition: as_pyarrow_reads(site, tmp_path, path)
            )
        elif not outcome:
            outcome = outcome_of(lambda site=site: as_undamaged(site, written, tmp_path))
        elif outcome == CLEAR_ERROR and str(partition.relative_to(site.directory)) not in said:
            outcome = f"does not name the file: {said[-200:]}"
        elif (site.directory / "results" / NAME).exists():
            outcome = "left a margin"
        counted.add(f"case {case}, {partition.name}, {how} {what}", outcome)
        shutil.rmtree(site.directory)


def is_readable(partition: Path) -> bool:
    """Whether PyArrow reads a file as a whole."""
    try:
        pq.ParquetFile(partition).read()
    except (pa.ArrowException, OSError):
        return False
    return True


def as_undamaged(site: Site, written: Site, scratch: Path) -> None:
    """Assert that a margin has the rows and values of the catalog before it was damaged."""
    as_pyarrow_reads(site, scratch, of=written)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Site]:
    """A site, and the same with its margin; shards are kept."""
    root = tmp_path_factory.mktemp("whole")
    site = small_site(root / "site", delete_intermediate_parquet_files=False)
    done = site.copy(root / "done")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    return site, done


def test_damaged_metadata_of_a_catalog_makes_no_wrong_margin(
    whole: tuple[Site, Site], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("damaged input, metadata")
    names = ("_metadata", "_common_metadata", "partition_info.csv", "catalog_info.json")
    rng = random.Random(f"{SEED} metadata")
    right = rows_of(whole[1])
    for case in range(number(8, 400)):
        site = whole[0].copy(tmp_path / "site")
        file = site.directory / "sky" / rng.choice(names)
        how = rng.choice(list(DAMAGES))
        what = damage(file, how, rng)
        code, said = run_in_child(lambda site=site: make_margin(site))
        outcome = outcome_of_end(code, said)
        if not outcome:
            rows = rows_of(site)
            # Metadata of columns may be others then, rows may not.
            same = rows.keys() == right.keys() and all(
                rows[name].equals(right[name]) for name in right
            )
            outcome = SURVIVED if same else "other rows"
        counted.add(f"case {case}, {file.name}, {how} {what}", outcome)
        shutil.rmtree(site.directory)


STATES = ("map", "reduce", "finish", "end")


@pytest.mark.parametrize("stage", STATES)
def test_damaged_intermediate_files_make_no_wrong_margin(
    whole: tuple[Site, Site], tally: Callable[[str], Tally], tmp_path: Path, stage: str
) -> None:
    """What a run has before a stage, or has left at its end, is damaged; the next run goes on."""
    counted = tally("damaged input, intermediate files")
    before = whole[0].copy(tmp_path / "before")
    code, said = run_in_child(lambda: make_margin(before, lambda now: stop_at(now, stage)))
    assert "Stopped" in said or stage == "end", said
    files = [path for path in (before.directory / "intermediate").rglob("*") if path.is_file()]
    files += [path for path in (before.directory / "results").rglob(".*/**/*") if path.is_file()]
    names = sorted(str(path.relative_to(before.directory)) for path in files if path.stat().st_size)
    rng = random.Random(f"{SEED} intermediate files {stage}")
    right = whole[1].results()
    for case in range(number(4, 150)):
        site = before.copy(tmp_path / "site")
        file = site.directory / rng.choice(names)
        how = rng.choice(list(DAMAGES))
        what = damage(file, how, rng)
        code, said = run_in_child(lambda site=site: make_margin(site))
        outcome = outcome_after(outcome_of_end(code, said), partial(made_again, site, right))
        counted.add(f"{stage}, case {case}, {file.name}, {how} {what}", outcome)
        shutil.rmtree(site.directory)


class Stopped(Exception):
    """A run that ends before a stage."""


def stop_at(now: str, stage: str) -> None:
    if now == stage:
        raise Stopped


def made_again(site: Site, right: dict[str, str]) -> None:
    code, said = run_in_child(lambda: make_margin(site))
    assert code == 0, said
    assert site.results() == right
