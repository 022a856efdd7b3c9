"""Finishing puts whole margins into their output directory, and nothing else."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin import finish, output
from margin_cache.margin.existing import clean_up, has_leftovers, is_complete, missing_receipts
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin
from margin_cache.margin.prepare import start_margin
from margin_cache.margin.reduce import reduce_margins
from margin_cache.storage.files import file_digest, write_text
from support.full_disks import files_end_at
from support.margins import remains, tree_digest
from support.stages import release_locks, run_map_jobs, run_reduce_jobs


@pytest.fixture
def reduced(prepare: Callable[..., Margin]) -> Margin:
    margin = prepare(margin_threshold=300.0)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    return margin


def test_a_finished_margin_is_complete_and_leaves_nothing(reduced: Margin, tmp_path: Path) -> None:
    assert not is_complete(reduced)
    summary = finish_margin(reduced)
    assert is_complete(reduced)
    assert remains(tmp_path) == []
    assert json.loads(reduced.done_file.read_text()) == summary
    files = list(reduced.files.output_dir.rglob("Npix=*"))
    assert summary == {
        "output_dir": str(reduced.files.output_dir),
        "rows": sum(pq.read_metadata(file).num_rows for file in files),
        "files": len(files),
        "collection": "",
        "is_default": False,
    }


def test_provenance_lists_all_files_and_versions(reduced: Margin) -> None:
    finish_margin(reduced)
    output_dir = reduced.files.output_dir
    tool = json.loads((output_dir / "provenance_info.json").read_text())["tool_args"]
    arguments = tool["runtime_args"]
    assert arguments["files"] == {
        path.relative_to(output_dir).as_posix(): [path.stat().st_size, file_digest(path)]
        for path in output_dir.rglob("*")
        if path.is_file() and path.name != "provenance_info.json"
    }
    assert arguments["margin_threshold"] == 300.0
    assert arguments["margin_order_used"] == reduced.plan.parameters.margin_order
    assert arguments["margin_threshold_used"] == reduced.plan.parameters.threshold
    assert arguments["library"] == reduced.plan.library
    assert arguments["packages"]["snakemake"] == version("snakemake")


def test_metadata_has_the_footers_in_the_order_of_the_pixels(reduced: Margin) -> None:
    finish_margin(reduced)
    output_dir = reduced.files.output_dir
    metadata = pq.read_metadata(output_dir / "_metadata")
    paths = [metadata.row_group(i).column(0).file_path for i in range(metadata.num_row_groups)]
    lines = (output_dir / "partition_info.csv").read_text().split()[1:]
    expected = [line.split(",") for line in lines]
    assert paths == [f"/Norder={k}/Dir={d}/Npix={n}.parquet" for k, n, d in expected]


def test_a_metadata_file_that_is_too_large_is_not_written(
    reduced: Margin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("margin_cache.margin.finish.MOST_FOOTER_BYTES", 1000)
    finish_margin(reduced)
    assert not (reduced.files.output_dir / "_metadata").exists()
    assert f"{reduced.files.output_dir}: gets no _metadata, because" in capsys.readouterr().err
    provenance = json.loads((reduced.files.output_dir / "provenance_info.json").read_text())
    assert "_metadata" not in provenance["tool_args"]["runtime_args"]["files"]


def test_footers_of_another_pyarrow_version_are_joined(reduced: Margin) -> None:
    footers = reduced.files.footers(reduced.plan.reduce_names[0])
    content = footers.read_bytes()
    version = f"parquet-cpp-arrow version {pa.__version__}".encode()
    assert content.count(version) == 1
    footers.write_bytes(content.replace(version, version[:-1] + b"x"))
    receipt = reduced.files.receipt(reduced.plan.reduce_names[0])
    record = json.loads(receipt.read_text())
    receipt.write_text(json.dumps({**record, "footers_digest": file_digest(footers)}))
    rows = finish_margin(reduced)["rows"]
    assert pq.read_metadata(reduced.files.output_dir / "_metadata").num_rows == rows


@pytest.mark.parametrize("missing", ["receipt", "file"])
def test_a_missing_file_is_named_and_nothing_is_moved(reduced: Margin, missing: str) -> None:
    path = reduced.files.receipt(reduced.plan.reduce_names[0])
    if missing == "file":
        path = reduced.files.staging_dir / next(iter(json.loads(path.read_text())["files"]))
    path.unlink()
    with pytest.raises(MarginCacheError, match=f"{path}: is missing"):
        finish_margin(reduced)
    assert not reduced.files.output_dir.exists()


def test_a_full_disk_is_reported_with_the_metadata_file(reduced: Margin) -> None:
    with pytest.raises(OSError) as caught, files_end_at(100):
        finish_margin(reduced)
    place = Path(caught.value.filename)
    assert place.parent == reduced.files.finishing_dir(place.parent.name[-12:])
    assert place.name == "_common_metadata"
    assert reduced.files.left_behind() == [reduced.files.staging_dir]
    assert not reduced.files.output_dir.exists()
    assert finish_margin(reduced)["rows"]


def test_damaged_footers_are_named_and_their_job_is_done_again(reduced: Margin) -> None:
    name = reduced.plan.reduce_names[0]
    footers = reduced.files.footers(name)
    footers.write_bytes(bytes(footers.stat().st_size))
    with pytest.raises(MarginCacheError, match=f"{footers}: is damaged. Start the run again"):
        finish_margin(reduced)
    assert not reduced.files.output_dir.exists()
    assert [
        each for each in reduced.plan.reduce_names if not reduced.files.receipt(each).exists()
    ] == [name]
    reduce_margins(reduced.plan, 0, reduced.files, reduced.files.staging_dir)
    assert finish_margin(reduced)["rows"]


def test_a_damaged_receipt_is_named(reduced: Margin) -> None:
    receipt = reduced.files.receipt(reduced.plan.reduce_names[0])
    receipt.write_text("{}")
    with pytest.raises(MarginCacheError, match=f"{receipt}: is missing or damaged. Start"):
        finish_margin(reduced)
    assert not reduced.files.output_dir.exists()


def test_a_staged_file_with_other_content_is_refused(reduced: Margin) -> None:
    path = next(reduced.files.staging_dir.rglob("*.parquet"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(MarginCacheError, match=f"{path}: was made from another state"):
        finish_margin(reduced)
    assert not reduced.files.output_dir.exists()


def test_a_changed_file_of_the_older_margin_is_not_reused(
    catalog: Path, prepare: Callable[..., Margin]
) -> None:
    """It has its size still, and is made again by the next run."""
    prepare = partial(prepare, partitions_per_job=1, delete_intermediate_parquet_files=False)
    older = prepare()
    run_map_jobs(older)
    run_reduce_jobs(older)
    finish_margin(older)
    os.utime(min(catalog.rglob("Npix=*.parquet")), ns=(1, 1))
    margin = prepare()
    done = [margin.files.receipt(name).exists() for name in margin.plan.reduce_names]
    assert any(done) and not all(done)
    kept = json.loads(margin.files.receipt(margin.plan.reduce_names[done.index(True)]).read_text())
    path = margin.files.output_dir / next(iter(kept["files"]))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run_map_jobs(margin)
    for job, is_done in enumerate(done):
        if not is_done:
            reduce_margins(margin.plan, job, margin.files, margin.files.staging_dir)
    with pytest.raises(MarginCacheError, match=f"{path.name}: was made from another state .* or"):
        finish_margin(margin)
    missing = [not margin.files.receipt(name).exists() for name in margin.plan.reduce_names]
    assert missing == [job == done.index(True) for job in range(len(done))]
    reduce_margins(margin.plan, done.index(True), margin.files, margin.files.staging_dir)
    finish_margin(margin)
    assert path.read_bytes() == content


def test_a_second_copy_finds_the_margin_complete(reduced: Margin) -> None:
    first = finish_margin(reduced)
    written = (reduced.files.output_dir / "provenance_info.json").stat().st_ino
    assert finish_margin(reduced) == first
    assert (reduced.files.output_dir / "provenance_info.json").stat().st_ino == written


def test_the_finishing_directory_is_protected_from_cleanup(
    reduced: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a run for the margin that is replaced, which it finds complete, would delete it."""
    start_margin(reduced)
    other = replace(reduced, plan=replace(reduced.plan, library="0.0"))
    move = output.replace_directory

    def with_another_run(new: Path, target: Path, *others: Any) -> None:
        clean_up(other)
        assert len(list(new.rglob("Npix=*"))) > 10
        move(new, target, *others)

    monkeypatch.setattr(output, "replace_directory", with_another_run)
    files = finish_margin(reduced)["files"]
    release_locks()
    assert len(list(reduced.files.output_dir.rglob("Npix=*"))) == files > 10
    assert reduced.files.left_behind() == []


def test_a_late_reduce_job_does_not_change_the_finishing_directory(
    reduced: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes what was right in another state of the catalog, when all has been checked."""
    own = finish._write_tables
    path = next(reduced.files.staging_dir.rglob("Npix=*"))
    content = path.read_bytes()

    def with_late_job(*arguments: Any) -> Any:
        write_text(path, "another state")
        return own(*arguments)

    monkeypatch.setattr(finish, "_write_tables", with_late_job)
    finish_margin(reduced)
    moved = reduced.files.output_dir / path.relative_to(reduced.files.staging_dir)
    assert moved.read_bytes() == content
    assert reduced.files.left_behind() == []


def test_a_late_finishing_job_does_not_replace_a_newer_margin(
    reduced: Margin, prepare: Callable[..., Margin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later run has deleted what this job has gathered, which would be made again in part."""
    other = prepare(margin_threshold=300.0, partitions_per_job=2)
    run_map_jobs(other)
    run_reduce_jobs(other)
    own = finish._provenance

    def late(margin: Margin, *others: Any) -> Any:
        if margin is reduced:
            finish_margin(other)
            assert not reduced.files.staging_dir.exists()
        return own(margin, *others)

    monkeypatch.setattr(finish, "_provenance", late)
    with pytest.raises(MarginCacheError, match="was changed meanwhile, perhaps by another run"):
        finish_margin(reduced)
    assert is_complete(other)
    clean_up(other)
    assert other.files.left_behind() == []


def test_a_file_added_to_the_older_margin_during_finishing_is_not_deleted(
    reduced: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_margin(reduced)
    notes = reduced.files.output_dir / "notes.txt"
    (reduced.files.output_dir / "partition_info.csv").unlink()
    run_map_jobs(reduced)
    run_reduce_jobs(reduced)
    own = finish._provenance

    def with_notes(*arguments: Any) -> Any:
        notes.write_text("mine")
        return own(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(finish, "_provenance", with_notes)
        with pytest.raises(MarginCacheError, match="was changed meanwhile"):
            finish_margin(reduced)
    with pytest.raises(MarginCacheError, match=f"{notes} does not belong to the margin"):
        finish_margin(reduced)
    notes.unlink()
    finish_margin(reduced)
    assert is_complete(reduced)


def test_files_that_were_all_reduced_anew_replace_a_complete_margin(finished: Margin) -> None:
    """As with --forceall; also a file that has rotted with its size."""
    before = tree_digest(finished.files.output_dir)
    description = finished.files.output_dir / "partition_info.csv"
    inode = description.stat().st_ino
    rotten = next(finished.files.output_dir.rglob("Npix=*.parquet"))
    rotten.write_bytes(bytes(rotten.stat().st_size))
    run_map_jobs(finished)
    run_reduce_jobs(finished)
    assert is_complete(finished)
    finish_margin(finished)
    assert tree_digest(finished.files.output_dir) == before
    assert description.stat().st_ino != inode
    assert not has_leftovers(finished)


def test_a_killed_rebuild_leaves_the_complete_margin(finished: Margin) -> None:
    """The finishing job then needs no receipts; the one that was about to be made is gone."""
    inode = (finished.files.output_dir / "partition_info.csv").stat().st_ino
    summary = json.loads(finished.done_file.read_text())
    reduce_margins(finished.plan, 0, finished.files, finished.files.staging_dir)
    finished.files.receipt(finished.plan.reduce_names[1]).unlink()
    assert is_complete(finished) and has_leftovers(finished)
    assert finish_margin(finished) == summary
    assert (finished.files.output_dir / "partition_info.csv").stat().st_ino == inode
    assert is_complete(finished) and not has_leftovers(finished)


def test_a_finishing_job_that_was_killed_at_its_end_is_repeated(
    reduced: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(finish, "clean_up", killed)
        with pytest.raises(KeyboardInterrupt):
            finish_margin(reduced)
    assert is_complete(reduced) and has_leftovers(reduced)
    assert finish_margin(reduced)["rows"]
    assert is_complete(reduced) and not has_leftovers(reduced)


def test_without_resume_only_the_margin_of_this_run_is_complete(
    finished: Margin, prepare: Callable[..., Margin]
) -> None:
    """Nothing of earlier runs is found, and they leave nothing once the margin is replaced."""
    before = tree_digest(finished.files.output_dir)
    del before["provenance_info.json"]
    first, second = (prepare(resume=False) for _ in range(2))
    assert first.plan.content_id == second.plan.content_id == finished.plan.content_id
    assert len({m.plan.plan_id for m in (first, second, finished)}) == 3
    for margin in (first, second):
        assert not is_complete(margin)
        assert len(missing_receipts(margin)) == len(margin.plan.reduce_names)
        start_margin(margin)
        run_map_jobs(margin)
        run_reduce_jobs(margin)
        finish_margin(margin)
        release_locks()
        after = tree_digest(margin.files.output_dir)
        del after["provenance_info.json"]
        assert after == before
        assert is_complete(margin) and is_complete(finished)
    assert not is_complete(first)
    assert not first.files.plan_dir.exists() and not finished.files.plan_dir.exists()
