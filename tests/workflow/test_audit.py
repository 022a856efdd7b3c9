"""`snakemake audit` checks margins on disk, and fails if one of them is unsafe."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from margin_cache.audit.findings import KINDS, load_findings, read_audit_of
from support.audited_sites import make_site
from support.odd_servers import odd_server
from support.once import once
from support.paths import ROOT
from support.sites import error_line
from support.workflow_runs import SNAKEMAKE, fork_snakemake, run_workflow


@pytest.fixture
def hats_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site_called("hats", tmp_path_factory)


def site_called(name: str, factory: pytest.TempPathFactory) -> Path:
    return once(factory, f"audited_{name}", lambda path: make_site(name, path))


def copy_margin(site: Path, margin: Path, *without: str) -> Path:
    for file in (site / "results/margin").rglob("*"):
        if file.is_file() and file.name not in without:
            target = margin / file.relative_to(site / "results/margin")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return margin


def remove_rows(margin: Path, rows: int) -> Path:
    """Remove the first rows of the largest file."""
    file = max(margin.rglob("Npix=*.parquet"), key=lambda path: pq.read_metadata(path).num_rows)
    pq.write_table(pq.ParquetFile(file).read().slice(rows), file)
    return file


def content_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "audit.json").read_text())


def findings_of(directory: Path) -> dict[Path, int]:
    """The files with the findings of the jobs, and their modification times."""
    files = directory.glob("intermediate/*_audit/*/findings/*.json")
    return {file: file.stat().st_mtime_ns for file in files}


def table_of(output: str) -> dict[str, list[int]]:
    """The numbers of rows and pixels by kind, from the tables on the terminal."""
    lines = [line.split() for line in output.splitlines() if line.startswith("  ")]
    return {
        name: [int(number) for number in (rows, pixels) if number != "-"]
        for name, rows, pixels, *_ in (line for line in lines if len(line) > 3)
        if name in KINDS
    }


def test_a_fault_is_a_result_and_no_job_is_repeated(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "anyones")
    # A run with the target `all` would refuse this one, which has nothing to do with the audit.
    copy_margin(hats_site, tmp_path / "results/sky_5arcs")
    config = {
        "input_catalog_path": hats_site / "sky",
        "audit_catalog_path": margin,
        "partitions_per_job": 8,
    }
    run = run_workflow(tmp_path, "audit", "--no-hooks", config=config, check=True)
    (found,) = (tmp_path / "results").glob("anyones-*_audit")
    assert f"audit: {margin.relative_to(tmp_path)} is clean\n" in run.stdout
    assert "sky_5arcs" not in run.stdout
    assert content_of(found)["verdict"] == "clean"
    assert read_audit_of(found, str(margin), str(hats_site / "sky")) == content_of(found)
    files = findings_of(tmp_path)
    assert len(files) > 1
    whole = load_findings(files)
    assert whole.candidates == len(whole.pixels) == len({result.pixel for result in whole.pixels})

    # As after a run that was killed.
    kept, *lost = sorted(files)
    for file in lost:
        file.unlink()
    (lost[0].parent / f".{lost[0].name}.1234.tmp").write_text("half")
    (found / "audit.json").unlink()
    run_workflow(tmp_path, "audit", config=config, check=True)
    assert findings_of(tmp_path).keys() == files.keys()
    assert findings_of(tmp_path)[kept] == files[kept]
    assert content_of(found)["verdict"] == "clean"

    remove_rows(margin, 2)
    for _ in range(2):  # the verdict is told each time
        run = run_workflow(tmp_path, "audit", config=config)
        assert run.returncode == 1
        assert "anyones is UNSAFE" in run.stdout
        assert table_of(run.stdout)["missing"] == [2, 1]
        for word in ("error", "Exception", "same command"):
            assert word not in run.stdout
        content = content_of(found)
        assert content["verdict"] == "unsafe"
        assert sum(len(pixel["missing"]) for pixel in content["faulty_pixels"]) == 2
        assert len(findings_of(tmp_path)) == 2 * len(files)


def test_a_change_during_an_audit_is_an_error(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "results/margin")
    config = {"input_catalog_path": hats_site / "sky", "audit_catalog_path": margin}
    run_workflow(tmp_path, "audit", config=config, check=True)
    (request,) = tmp_path.glob("intermediate/margin_audit/*/request.json")
    values = json.loads(request.read_text())
    request.write_text(json.dumps({**values, "states": ["of another time", ""]}))
    run = run_workflow(tmp_path, "audit")
    assert run.returncode != 0
    assert "changed during the audit. Start the audit again." in run.stdout
    assert "is clean" not in run.stdout
    assert list((tmp_path / "results/margin_audit").iterdir()) == []


def test_several_margins_are_audited_in_one_run(
    hats_site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Two of one name: the default of a collection, and what this configuration would make."""
    hipscat_site = site_called("hipscat", tmp_path_factory)
    collection = tmp_path / "collection"
    listed = copy_margin(hats_site, collection / "margin")
    (collection / "sky").symlink_to(hats_site / "sky")
    (collection / "collection.properties").write_text(
        "obs_collection=c\nhats_primary_table_url=sky\nall_margins=margin\ndefault_margin=margin\n"
    )
    copy_margin(hipscat_site, tmp_path / "results/margin", "provenance_info.json")
    reverse_rows(listed)
    entries = [
        {
            "input_catalog_path": str(hipscat_site / "sky"),
            "output_artifact_name": "margin",
            "audit_fraction": 0.5,
            "audit_seed": 1,
        },
        {"input_catalog_path": str(collection), "audit_catalog_path": str(collection)},
    ]
    run = run_workflow(tmp_path, "audit", config={"margins": entries}, check=True)
    assert "audit: results/margin is clean, as far as a sample can tell" in run.stdout
    assert "(rule of three)" in run.stdout
    assert "audit: collection/margin is safe, with warnings" in run.stdout
    assert table_of(run.stdout) == {"unsorted": [1]}
    (other,) = (tmp_path / "results").glob("margin-*_audit")
    contents = [content_of(tmp_path / "results/margin_audit"), content_of(other)]
    assert [content["verdict"] for content in contents] == ["clean", "safe"]
    assert 0 < contents[0]["pixels"]["checked"] < contents[0]["pixels"]["all"]
    maps = [directory / "audit.png" for directory in (tmp_path / "results/margin_audit", other)]
    assert [path.exists() for path in maps] == [False, True]

    config = {"margins": entries, "audit_strict": True}
    assert run_workflow(tmp_path, "audit", config=config).returncode == 1


def reverse_rows(margin: Path) -> None:
    file = max(margin.rglob("Npix=*.parquet"), key=lambda path: path.stat().st_size)
    table = pq.ParquetFile(file).read()
    pq.write_table(table.take(list(range(len(table)))[::-1]), file)


def test_a_module_fails_if_a_margin_is_unsafe(hats_site: Path, tmp_path: Path) -> None:
    margin = copy_margin(hats_site, tmp_path / "margin")
    config = {"input_catalog_path": str(hats_site / "sky"), "audit_catalog_path": str(margin)}
    (tmp_path / "Snakefile").write_text(
        f"module margin:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: {config!r}\n\n"
        "use rule * from margin as margin_*\n"
    )
    remove_rows(margin, 2)
    command = [SNAKEMAKE, "--directory", tmp_path, "-s", tmp_path / "Snakefile", "--cores", "2"]
    run = fork_snakemake([*map(str, command), "margin_audit"])
    assert run.returncode == 1
    before, _, after = run.stdout.partition("Error in rule margin_audit:")
    assert "audit: margin is UNSAFE" in before
    assert "error: margins that have not passed their audit: 1" in after
    (found,) = (tmp_path / "results").glob("margin-*_audit")
    assert content_of(found)["verdict"] == "unsafe"


def test_a_margin_is_audited_where_it_is(hats_site: Path, tmp_path: Path) -> None:
    """And a server that sends a page for everything ends a run with one line."""
    margin = copy_margin(hats_site, tmp_path / "site/collection/margin")
    (tmp_path / "site/collection/sky").symlink_to(hats_site / "sky")
    (tmp_path / "site/collection/collection.properties").write_text(
        "obs_collection=c\nhats_primary_table_url=sky\nall_margins=margin\n"
    )
    run = tmp_path / "run"
    with odd_server(tmp_path / "site", "403") as url:
        config = {"input_catalog_path": f"{url}/collection", "audit_catalog_path": "margin"}
        finished = run_workflow(run, "audit", config=config, check=True)
        assert f"audit: {url}/collection/margin is clean" in finished.stdout
        (found,) = (run / "results").glob("margin-*_audit")
        primary = f"{url}/collection/sky"
        assert read_audit_of(found, f"{url}/collection/margin/", primary) == content_of(found)
        assert read_audit_of(found, primary, primary) is None
        (margin / "partition_info.csv").write_text("changed")
        assert read_audit_of(found, f"{url}/collection/margin", primary) is None
    with odd_server(tmp_path / "nothing", "page") as url:
        config = {"input_catalog_path": str(hats_site / "sky"), "audit_catalog_path": f"{url}/m"}
        line = error_line(run_workflow(run, "audit", config=config))
    assert f"audit_catalog_path: {url}/m has no metadata of a margin." in line
