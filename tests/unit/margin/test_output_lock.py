"""A claim tells the runs of one directory from those of all others."""

from collections.abc import Callable
from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.output_lock import (
    DESCRIPTIONS,
    LOCK_OBJECT,
    in_use,
    is_own_lock,
    is_resumed,
    names_while_made,
    new_output_lock,
    read_output_lock,
    work_of,
)
from margin_cache.storage.files import write_json

RUN = {"process": 5, "host": "node", "directory": "/data/lab"}


@pytest.fixture
def margin(in_s3: Callable[..., Margin]) -> Margin:
    return in_s3()


def test_a_claim_says_who_makes_what(margin: Margin) -> None:
    claim = new_output_lock(margin, RUN)
    assert claim.items() >= {**RUN, **work_of(margin)}.items()
    assert new_output_lock(margin, RUN) == claim
    assert work_of(margin) == {
        "plan": margin.plan.plan_id,
        "state": margin.plan.input_fingerprint,
    }


def test_a_run_of_this_directory_goes_on(margin: Margin) -> None:
    assert not is_resumed(margin) and not is_own_lock(margin)
    write_json(margin.files.output_dir / LOCK_OBJECT, new_output_lock(margin, RUN))
    assert is_resumed(margin) and is_own_lock(margin)


def test_a_run_with_other_parameters_goes_on_on_demand_only(in_s3: Callable[..., Margin]) -> None:
    margin = in_s3()
    other = in_s3(margin_threshold=30.0)
    again = in_s3(margin_threshold=30.0, overwrite=True)
    # The last one has looked, and found nothing: the claim is written after that.
    write_json(margin.files.output_dir / LOCK_OBJECT, new_output_lock(margin, RUN))
    assert [is_resumed(each) for each in (margin, other, again)] == [True, False, True]


@pytest.mark.parametrize("claim", [{**RUN, "owner": "another"}, {}, "text", None])
def test_a_run_of_another_directory_is_refused(claim: object, margin: Margin) -> None:
    new_output_lock(margin, RUN)
    write_json(margin.files.output_dir / LOCK_OBJECT, claim)
    assert not is_own_lock(margin)
    with pytest.raises(MarginCacheError, match=r"^output_path: s3:.*is being made by another run"):
        is_resumed(margin)


def test_a_directory_without_runs_has_no_claims(margin: Margin) -> None:
    write_json(margin.files.output_dir / LOCK_OBJECT, {**RUN, "owner": None})
    assert not is_own_lock(margin)


def test_another_run_is_named() -> None:
    words = str(in_use("s3://sky/m", RUN))
    assert "process 5 on node, started in /data/lab" in words
    assert "remove the object s3://sky/m/.being_made.json" in words
    assert "which does not say who it is" in str(in_use("s3://sky/m", ["text"]))


def test_what_is_no_claim_says_nothing() -> None:
    assert read_output_lock(b'{"owner": "a"}') == {"owner": "a"}
    assert read_output_lock(b"") is None and read_output_lock(b"\xff") is None


def test_a_run_may_write_files_of_the_margin_and_what_describes_it(margin: Margin) -> None:
    names = list(names_while_made(margin))
    assert {LOCK_OBJECT, "partition_info.csv", "provenance_info.json", *DESCRIPTIONS} <= set(names)
    assert {"_metadata", "_common_metadata"} <= {Path(name).name for name in names}
    assert sum("Npix=" in name for name in names) == len(margin.plan.destination_orders) > 0
