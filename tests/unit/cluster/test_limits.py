"""What partitions allow is known before a job is handed to SLURM."""

import math
from pathlib import Path

import pytest
from margin_cache.cluster.limits import (
    Limits,
    ask_slurm,
    check_request,
    limits_of,
    most_of,
    parse_limits,
)
from margin_cache.errors import MarginCacheError

# As SLURM 22.05 prints them, shortened.
PARTITIONS = (
    "PartitionName=main AllowGroups=ALL Default=YES DefaultTime=NONE MaxNodes=UNLIMITED "
    "MaxTime=UNLIMITED State=UP DefMemPerCPU=100 MaxMemPerNode=UNLIMITED\n"
    "PartitionName=short AllowGroups=ALL Default=NO MaxTime=00:05:00 MaxMemPerNode=UNLIMITED\n"
    "PartitionName=small AllowGroups=ALL Default=NO MaxTime=1-12:30:00 MaxMemPerNode=300\n"
    "PartitionName=shared AllowGroups=ALL Default=NO MaxTime=02:00:30 MaxMemPerCPU=500\n"
)
SETTINGS = "MaxJobCount             = 50000\nMaxMemPerNode           = {}\nMaxStepCount = 40000\n"
NODES = "main|16000\nmain|32000+\nshort|16000\nsmall|16000\n"
ALL = parse_limits(PARTITIONS, SETTINGS.format("UNLIMITED"), NODES)


def test_limits_are_read_as_slurm_prints_them() -> None:
    assert {
        "main": Limits(math.inf, 32000, is_default=True),
        "short": Limits(5, 16000),
        "small": Limits(36 * 60 + 30, 300),
        "shared": Limits(120.5, math.inf),
    } == ALL


def test_the_limit_of_the_whole_cluster_holds_for_all_partitions() -> None:
    limits = parse_limits(PARTITIONS, SETTINGS.format("8000"), NODES)
    assert {name: each.memory_mb for name, each in limits.items()} == {
        "main": 8000,
        "short": 8000,
        "small": 300,
        "shared": 8000,
    }


@pytest.mark.parametrize("text", ["", "slurm_load_partitions: Unable to contact\n"])
def test_an_answer_without_partitions_limits_nothing(text: str) -> None:
    assert parse_limits(text, text, text) == {}
    check_request("map", 1e9, 1e9, "any", {})


def test_without_slurm_there_are_no_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_slurm() == {}


def test_jobs_that_name_no_partition_run_in_the_default_one() -> None:
    assert limits_of("", ALL) == [ALL["main"]]


def test_a_partition_that_is_not_there_is_named() -> None:
    with pytest.raises(MarginCacheError, match=r"no partition nosuch; it has main, shared, short"):
        check_request("map", 1, 1, "main,nosuch", ALL)


@pytest.mark.parametrize(
    ("memory", "minutes", "names", "words"),
    [
        (450, 11, "short", ("short", "11 minutes", "gives 5", "runtime=5", "main")),
        (450, 11, "small", ("small", "450 MB", "gives 300", "map:mem_mb=300", "main, shared")),
        (64000, 11, "", ("the default partition", "64000 MB", "gives 32000")),
        (450, 11, "short,small", ("short,small", "which no one of them gives")),
    ],
)
def test_a_request_that_can_never_run_is_refused(
    memory: int, minutes: int, names: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(MarginCacheError) as caught:
        check_request("map", memory, minutes, names, ALL)
    for word in ("slurm_partition", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "minutes", "names"),
    [(450, 11, ""), (450, 5, "short"), (300, 2190, "small"), (450, 11, "short,main")],
)
def test_a_request_that_a_partition_allows_is_made(memory: int, minutes: int, names: str) -> None:
    check_request("map", memory, minutes, names, ALL)


def test_the_most_is_what_any_of_the_partitions_gives() -> None:
    assert most_of("short,small", ALL) == Limits(2190, 16000)
    assert most_of("nosuch", ALL) == most_of("main", {}) == Limits(math.inf, math.inf)
