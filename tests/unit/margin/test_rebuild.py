"""A finished margin is made again if that is asked for, and stays until the new one is whole."""

import pytest
from margin_cache.margin import rebuild
from margin_cache.margin.existing_output import delete_false_receipts, is_complete
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.job_inputs import missing_receipts
from margin_cache.margin.model import Margin
from margin_cache.margin.rebuild import Rebuild, rebuild_wanted, reuses_files, start_rebuild
from support.margins import tree_digest
from support.stages import run_map_jobs, run_reduce_jobs


@pytest.mark.parametrize(
    ("everything", "rules", "wanted"),
    [
        (True, [], Rebuild.SHARDS),
        (False, [], Rebuild.NOTHING),
        (False, ["finish_margin"], Rebuild.METADATA),
        (False, ["reduce_margins", "finish_margin"], Rebuild.FILES),
        (False, ["margin_map_partitions"], Rebuild.SHARDS),
        (False, ["all", "results/x"], Rebuild.NOTHING),
    ],
)
def test_what_is_made_again_follows_from_the_options(
    everything: bool, rules: list[str], wanted: Rebuild
) -> None:
    assert rebuild_wanted(everything, rules) == wanted


@pytest.mark.parametrize("what", [Rebuild.METADATA, Rebuild.FILES, Rebuild.SHARDS])
def test_the_old_margin_stays_but_does_not_count(finished: Margin, what: Rebuild) -> None:
    before = tree_digest(finished.files.output_dir)
    start_rebuild(finished, what)
    assert not is_complete(finished)
    assert tree_digest(finished.files.output_dir) == before
    assert not finished.done_file.exists()
    assert finished.files.shards_dir.exists() == (what < Rebuild.SHARDS)
    assert finished.files.receipts_dir.exists() == (what < Rebuild.FILES)
    assert reuses_files(finished) == (what < Rebuild.FILES)


@pytest.mark.parametrize("what", [Rebuild.METADATA, Rebuild.FILES, Rebuild.SHARDS])
def test_the_new_margin_takes_its_place(finished: Margin, what: Rebuild) -> None:
    before = tree_digest(finished.files.output_dir)
    inode = (finished.files.output_dir / "partition_info.csv").stat().st_ino
    start_rebuild(finished, what)
    if what >= Rebuild.SHARDS:
        run_map_jobs(finished)
    if what >= Rebuild.FILES:
        run_reduce_jobs(finished)
    finish_margin(finished)
    assert is_complete(finished)
    assert tree_digest(finished.files.output_dir) == before
    assert (finished.files.output_dir / "partition_info.csv").stat().st_ino != inode


def test_a_file_that_rots_with_its_size_does_not_get_into_the_new_margin(finished: Margin) -> None:
    before = tree_digest(finished.files.output_dir)
    rotten = next(finished.files.output_dir.rglob("Npix=*.parquet"))
    rotten.write_bytes(bytes(rotten.stat().st_size))
    start_rebuild(finished, Rebuild.FILES)
    run_reduce_jobs(finished)
    # As if a cleaner had taken it before the run went on.
    (finished.files.staging_dir / rotten.relative_to(finished.files.output_dir)).unlink()
    delete_false_receipts(finished)
    assert len(missing_receipts(finished)) == 1
    run_reduce_jobs(finished)
    finish_margin(finished)
    assert tree_digest(finished.files.output_dir) == before


def test_an_interruption_before_all_is_deleted_leaves_the_margin_complete(
    finished: Margin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: object, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rebuild, "write_json", full_disk)
    with pytest.raises(OSError):
        start_rebuild(finished, Rebuild.SHARDS)
    assert is_complete(finished)


def test_files_once_refused_stay_so_until_they_are_made(finished: Margin) -> None:
    start_rebuild(finished, Rebuild.FILES)
    start_rebuild(finished, Rebuild.METADATA)
    assert not reuses_files(finished)
