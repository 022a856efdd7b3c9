"""Names and values that a shell, YAML, HTML, a mail or a file system may misunderstand."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.faults import Tally, outcome_after, outcome_of_end, sample
from support.faulty_margins import Site, make_margin, run_in_child, small_site
from support.margins import NAME
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

PAYLOADS = (
    "$(touch pwned)",
    "`touch pwned`",
    "a; touch pwned",
    "a && touch pwned #",
    "a' \"b",
    "{plan_dir}",
    "{{x}}",
    "!!python/object/apply:os.system ['touch pwned']",
    "<script>alert(1)</script>",
    "a\nBcc: nobody@example.org",
    "line\r\nbreak",
    "-rf",
    "*?[a-z]",
    "é\u202e日本\U0001f30c",
    " ends with a blank ",
    "tab\there",
    "..",
    "%s%n{0}",
    "a=b",
    "con\\back",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return small_site(tmp_path_factory.mktemp("names") / "site", partitions_per_job=50)


@pytest.fixture(scope="module")
def ids(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """The ids of the rows of each file of the margin."""
    done = site.copy(tmp_path_factory.mktemp("names") / "done")
    code, said = run_in_child(lambda: make_margin(done))
    assert code == 0, said
    return ids_of(done.directory / "results" / NAME)


def ids_of(margin: Path, column: str = "id") -> dict[str, list[int]]:
    return {
        str(path.relative_to(margin)): pq.ParquetFile(path).read([column])[column].to_pylist()
        for path in sorted(margin.rglob("Npix=*.parquet"))
    }


def right_margin(site: Site, ids: dict[str, list[int]], column: str = "id") -> None:
    """The margin, if there is one, has the rows; and nothing that the payload ordered was done."""
    assert not [path for path in site.directory.parent.rglob("pwned*")]
    margins = list((site.directory / "results").glob("[!.]*"))
    for margin in margins:
        assert ids_of(margin, column) == ids


def as_catalog_name(site: Site, text: str) -> Site:
    path = site.directory / "sky" / "catalog_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"catalog_name": text}))
    return Site(site.directory, site.config | {"output_artifact_name": ""})


def as_directory(site: Site, text: str) -> Site:
    target = site.directory / text / "sky"
    target.parent.mkdir(parents=True, exist_ok=True)
    (site.directory / "sky").rename(target)
    return Site(site.directory, site.config | {"input_catalog_path": f"{text}/sky"})


def as_column(site: Site, text: str) -> Site:
    for path in (site.directory / "sky").rglob("Npix=*.parquet"):
        table = pq.ParquetFile(path).read()
        names = [text if name == "mag" else name for name in table.schema.names]
        pq.write_table(table.rename_columns(names).replace_schema_metadata(None), path)
    for name in ("_metadata", "_common_metadata"):
        (site.directory / "sky" / name).unlink()
    return site


def as_value(site: Site, text: str) -> Site:
    for path in (site.directory / "sky").rglob("Npix=*.parquet"):
        table = pq.ParquetFile(path).read()
        words = pa.array([text] * len(table), pa.string())
        pq.write_table(table.append_column("words", words), path)
    for name in ("_metadata", "_common_metadata"):
        (site.directory / "sky" / name).unlink()
    return site


def as_key(key: str, site: Site, text: str) -> Site:
    return Site(site.directory, site.config | {key: text})


PLACES: dict[str, Callable[[Site, str], Site]] = {
    "catalog's name": as_catalog_name,
    "catalog's directory": as_directory,
    "column": as_column,
    "value": as_value,
    **{
        key: partial(as_key, key)
        for key in ("output_artifact_name", "tmp_dir", "output_path", "margin_order")
    },
}


def test_odd_names_and_values_are_taken_as_they_are_or_refused(
    site: Site, ids: dict[str, list[int]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("names and values")
    cases = [(place, text) for place in PLACES for text in PAYLOADS]
    for place, text in sample(cases, 10, "names"):
        copy = site.copy(tmp_path / "case")
        changed = PLACES[place](copy, text)
        outcome = outcome_of_end(*run_in_child(lambda changed=changed: make_margin(changed)))
        outcome = outcome_after(outcome, partial(right_margin, copy, ids))
        counted.add(f"{place}: {text!r}", outcome)
        shutil.rmtree(copy.directory)


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_files_are_those_of_the_umask(
    site: Site, tally: Callable[[str], Tally], tmp_path: Path, umask: int
) -> None:
    counted = tally("names and values")
    copy = site.copy(tmp_path / "case")

    def with_umask() -> None:
        os.umask(umask)
        make_margin(copy)

    outcome = outcome_of_end(*run_in_child(with_umask))

    def modes() -> None:
        paths = [*(copy.directory / "results").rglob("*")]
        assert len(paths) > 20
        for path in paths:
            bits = 0o777 if path.is_dir() else 0o666
            assert path.stat().st_mode & 0o777 == bits & ~umask, path

    counted.add(f"umask {umask:03o}", outcome_after(outcome, modes))


LINKED = ("sky", "results", "intermediate", "sky/Norder=1", "sky/Norder=1/Dir=0", "partition")


def test_symbolic_links_are_followed_wherever_they_are(
    site: Site, ids: dict[str, list[int]], tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("names and values")
    for place in LINKED:
        copy = site.copy(tmp_path / "case")
        path = copy.directory / place
        if place == "partition":
            path = sorted((copy.directory / "sky").rglob("Npix=*.parquet"))[5]
        away = tmp_path / "case" / "elsewhere"
        if path.exists():
            path.rename(away)
        else:
            away.mkdir()
        path.symlink_to(away)
        outcome = outcome_of_end(*run_in_child(lambda copy=copy: make_margin(copy)))
        counted.add(f"link {place}", outcome_after(outcome, partial(right_margin, copy, ids)))
        shutil.rmtree(copy.directory)


def test_a_whole_run_takes_odd_names_as_they_are(
    tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    """By the shell, Snakemake's formats, YAML and the log."""
    counted = tally("names and values")
    odd = tmp_path / "a $(touch pwned) 'x' \"&\" é"
    words = pa.array(["$(touch pwned)"] * 600)
    small_catalog(odd / "sky", rows=600, max_rows=300, columns={"a;touch pwned": words})
    config = {
        "input_catalog_path": odd / "sky",
        "output_path": odd / "out",
        "tmp_dir": odd / "tmp",
        "margin_threshold": 600.0,
    }
    run = run_workflow(odd / "work", config=config)
    outcome = outcome_of_end(run.returncode, run.stdout)

    def right() -> None:
        (margin,) = (odd / "out").iterdir()
        rows = sum(len(rows) for rows in ids_of(margin).values())
        assert rows > 50
        assert not [path for path in tmp_path.rglob("*") if path.name == "pwned"]

    counted.add("a whole run", outcome_after(outcome, right))
