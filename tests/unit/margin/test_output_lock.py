"""A lock identifies the runs of one working directory."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.output_lock import (
    LOCK_OBJECT,
    METADATA_FILES,
    in_use,
    is_own_lock,
    is_resumed,
    names_while_made,
    new_output_lock,
    parse_output_lock,
)
from margin_cache.storage.files import write_json

RUN = {"process": 5, "host": "node", "directory": "/data/lab"}


@pytest.fixture
def margin(in_s3: Callable[..., Margin]) -> Margin:
    return in_s3()


def write_lock(margin: Margin, content: object) -> None:
    write_json(margin.files.output_dir / LOCK_OBJECT, content)


def test_lock_names_the_run_and_what_it_makes(margin: Margin) -> None:
    lock = new_output_lock(margin, RUN)
    assert asdict(lock).items() >= RUN.items()
    assert new_output_lock(margin, RUN) == lock == parse_output_lock(lock.encoded())
    assert lock.is_for(margin)
    assert not replace(lock, plan="another").is_for(margin)
    assert not replace(lock, fingerprint="another").is_for(margin)


def test_run_of_the_same_directory_is_resumed(margin: Margin) -> None:
    assert not is_resumed(margin) and not is_own_lock(margin)
    write_lock(margin, asdict(new_output_lock(margin, RUN)))
    assert is_resumed(margin) and is_own_lock(margin)


def test_run_with_other_parameters_is_resumed_with_overwrite_only(
    in_s3: Callable[..., Margin],
) -> None:
    margin = in_s3()
    other = in_s3(margin_threshold=30.0)
    overwriting = in_s3(margin_threshold=30.0, overwrite=True)
    # Preparing the last one refreshed the listing, so the lock is written after it.
    write_lock(margin, asdict(new_output_lock(margin, RUN)))
    assert is_resumed(margin) and is_resumed(overwriting)
    assert not is_resumed(other)


@pytest.mark.parametrize("content", [{"run_token": "another"}, {}, "text", None])
def test_lock_of_another_directory_is_refused(content: object, margin: Margin) -> None:
    lock = asdict(new_output_lock(margin, RUN))
    write_lock(margin, {**lock, **content} if content and isinstance(content, dict) else content)
    assert not is_own_lock(margin)
    with pytest.raises(MarginCacheError, match=r"^output_path: s3:.*is being made by another run"):
        is_resumed(margin)


def test_directory_without_runs_has_no_lock(margin: Margin) -> None:
    record = {**RUN, "plan": margin.plan.plan_id, "fingerprint": "", "run_token": None}
    write_lock(margin, record)
    assert not is_own_lock(margin)


def test_other_run_is_described(margin: Margin) -> None:
    message = str(in_use("s3://sky/m", new_output_lock(margin, RUN)))
    assert "process 5 on node, started in /data/lab" in message
    assert "remove the object s3://sky/m/.being_made.json" in message
    assert "unknown process" in str(in_use("s3://sky/m", None))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"run_token": "a"}', b"null"])
def test_damaged_lock_is_none(content: bytes) -> None:
    assert parse_output_lock(content) is None


def test_names_of_objects_that_a_run_may_write(margin: Margin) -> None:
    names = set(names_while_made(margin))
    assert {LOCK_OBJECT, "partition_info.csv", "provenance_info.json", *METADATA_FILES} <= names
    assert {"_metadata", "_common_metadata"} <= {Path(name).name for name in names}
    assert sum("Npix=" in name for name in names) == len(margin.plan.destination_orders) > 0
