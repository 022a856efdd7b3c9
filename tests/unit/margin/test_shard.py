"""What is read of a shard is what was written, or the shard is named."""

import datetime
import errno
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.catalog.columns import DESTINATION, SOURCE
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.margin.shard import Block, read_rows, write_index, write_rows

DAMAGED = "was damaged. Start the run again; it makes the file again."
BOUNDS = np.array([0, 3, 7, 8, 12])
ROWS = 1200


def some_rows(seed: int = 1) -> pa.Table:
    """Rows for the destinations 0 to 8 and 10, in no order, of types with buffers of all kinds."""
    rng = np.random.default_rng(seed)
    destinations = rng.choice([0, 1, 2, 3, 5, 6, 7, 8, 10], ROWS)
    words = [None if value < 0.1 else "x" * int(20 * value) for value in rng.random(ROWS)]
    return pa.table(
        {
            DESTINATION: pa.array(destinations, pa.uint32()),
            SOURCE: pa.array(rng.integers(0, 9, ROWS), pa.uint32()),
            "id": np.arange(ROWS),
            "flag": pa.array([word is None for word in words]),
            "word": words,
            "list": [[word, "y"] if word else None for word in words],
            "struct": [{"a": number, "b": words[number]} for number in range(ROWS)],
            "nothing": pa.nulls(ROWS),
            "time": pa.array([datetime.datetime(2026, 1, 1)] * ROWS),
        }
    )


def write_shard(path: Path, *parts: list[pa.Table]) -> list[Block]:
    blocks: list[Block] = []
    with path.open("wb") as file:
        for part in parts:
            blocks += write_rows(file, part, BOUNDS)
        write_index(file, path, blocks)
    return blocks


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard that was written in two turns."""
    path = tmp_path / "plan" / "shards" / "shard.arrow"
    path.parent.mkdir(parents=True)
    table = some_rows()
    write_shard(path, [table.slice(0, 100), table.slice(100, 800)], [table.slice(900)])
    return path


def ids(shard: Path, first: int, stop: int) -> dict[int, list[int]]:
    """The ids of rows by their destination, of those from the first to before the last."""
    found: dict[int, list[int]] = {}
    for batch in read_rows(shard, some_rows().schema, first, stop):
        for destination, identity in zip(batch[0].to_pylist(), batch["id"].to_pylist()):
            if first <= destination < stop:
                found.setdefault(destination, []).append(identity)
    return found


@pytest.mark.parametrize(("first", "stop"), [(0, 3), (3, 7), (7, 8), (8, 12), (0, 12), (2, 4)])
def test_rows_of_a_destination_keep_their_order(first: int, stop: int, shard: Path) -> None:
    expected: dict[int, list[int]] = {}
    for identity, destination in enumerate(some_rows()[DESTINATION].to_pylist()):
        if first <= destination < stop:
            expected.setdefault(destination, []).append(identity)
    assert ids(shard, first, stop) == expected


def test_all_columns_are_read_as_they_were(shard: Path) -> None:
    table = pa.Table.from_batches(read_rows(shard, some_rows().schema, 0, 12))
    expected = some_rows()
    assert table.num_rows == ROWS
    assert table.sort_by("id").equals(expected)


def test_a_block_has_rows_for_one_job(shard: Path) -> None:
    blocks = list(read_rows(shard, some_rows().schema, 0, 12))
    assert len(blocks) == 8
    for block in blocks:
        destinations = block.column(DESTINATION).to_numpy()
        assert len(set(np.searchsorted(BOUNDS, destinations, side="right"))) == 1
        assert (np.diff(destinations.astype(int)) >= 0).all()
    assert len(list(read_rows(shard, some_rows().schema, 3, 7))) == 2


def test_no_rows_are_no_block(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    write_shard(path)
    assert list(read_rows(path, some_rows().schema, 0, 12)) == []


@pytest.mark.parametrize("with_", [b"\0", b"\xff"])
def test_a_damaged_block_is_found_wherever_it_is(with_: bytes, shard: Path) -> None:
    """By one job at least; what the others read is as it was."""
    content = shard.read_bytes()
    jobs = list(zip(BOUNDS[:-1].tolist(), BOUNDS[1:].tolist(), strict=True))
    whole = {job: ids(shard, *job) for job in jobs}
    size = 1536
    for start in range(0, len(content), size):
        block = content[start : start + size]
        if not block.strip(b"\0"):
            continue
        damaged = content[:start] + with_ * len(block) + content[start + len(block) :]
        found = 0
        for job in jobs:
            shard.write_bytes(damaged)
            try:
                assert ids(shard, *job) == whole[job]
            except MarginCacheError as error:
                found += 1
                assert str(error) == f"{shard}: {DAMAGED}"
        assert found, start


@pytest.mark.parametrize("place", ["plan/shards/other.arrow", "other/shards/shard.arrow"])
def test_a_shard_of_another_job_or_plan_is_named(place: str, shard: Path, tmp_path: Path) -> None:
    other = tmp_path / place
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(shard.read_bytes())
    with pytest.raises(MarginCacheError, match=re.escape(f"{other}: {DAMAGED}")):
        list(read_rows(other, some_rows().schema, 0, 12))
    assert not other.exists()
    assert ids(shard, 0, 12)


def test_a_changed_byte_anywhere_is_found_or_changes_nothing(shard: Path) -> None:
    """What messages say around the buffers too, as how many nulls a column has."""
    content = shard.read_bytes()
    table = pa.Table.from_batches(read_rows(shard, some_rows().schema, 0, 12))
    # A copy: what is mapped into memory changes with the file.
    whole = table.take(list(range(ROWS)))
    found = 0
    for place in np.random.default_rng(1).choice(len(content), 400, replace=False).tolist():
        changed = bytes([content[place] ^ 1])
        shard.write_bytes(content[:place] + changed + content[place + 1 :])
        try:
            rows = pa.Table.from_batches(read_rows(shard, some_rows().schema, 0, 12))
        except MarginCacheError:
            found += 1
        else:
            assert rows.equals(whole), place
            assert [c.null_count for c in rows.columns] == [c.null_count for c in whole.columns]
    assert found > 250


def test_damage_in_the_rows_of_other_jobs_is_not_noticed(shard: Path) -> None:
    """Whose blocks are not read."""
    blocks = write_shard(shard, [some_rows()])
    content = bytearray(shard.read_bytes())
    _, _, start, size, _ = next(block for block in blocks if block[0] == 7)
    content[start + size - 64 : start + size] = b"\xff" * 64
    shard.write_bytes(content)
    for job in ((0, 3), (3, 7), (8, 12)):
        assert ids(shard, *job)
    with pytest.raises(MarginCacheError, match=DAMAGED):
        ids(shard, 7, 8)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 100])
def test_a_file_that_is_no_shard_is_deleted(content: bytes, shard: Path) -> None:
    shard.write_bytes(content)
    with pytest.raises(MarginCacheError, match=f"{shard}: {DAMAGED}"):
        ids(shard, 0, 12)
    assert list(shard.parent.iterdir()) == []


# --- deleted, or left --------------------------------------------------------------------


def damage(shard: Path) -> None:
    """Damage a shard in place."""
    with shard.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(bytes(20))


def test_a_missing_shard_is_named(shard: Path) -> None:
    shard.unlink()
    with pytest.raises(MarginCacheError, match=f"{shard}: is missing. Start the run again"):
        ids(shard, 0, 12)
    assert list(shard.parent.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_shard_that_cannot_be_read_at_the_moment_is_kept(
    number: int, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, **options: object) -> None:
        raise OSError(number, f"Failed to open local file '{path}'")

    with monkeypatch.context() as patched:
        patched.setattr(pa, "memory_map", fail)
        said = re.escape(f"{shard}: cannot be read ({os.strerror(number)}). Start the run again")
        with pytest.raises(RetryableError, match=said):
            ids(shard, 0, 12)
    assert ids(shard, 0, 12)


def test_lack_of_memory_does_not_delete_a_shard(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pa, "memory_map", fail)
    with pytest.raises(pa.ArrowMemoryError):
        ids(shard, 0, 12)
    assert list(shard.parent.iterdir()) == [shard]


def test_jobs_that_have_opened_a_shard_can_read_it_after_deletion(shard: Path) -> None:
    """As jobs that outlive their run; a machine that has opened a file keeps it."""
    rows = read_rows(shard, some_rows().schema, 0, 12)
    expected = [pa.RecordBatch.from_pylist(b.to_pylist(), b.schema) for b in rows]
    rows = read_rows(shard, some_rows().schema, 0, 12)
    got = [next(rows)]
    damage(shard)
    with pytest.raises(MarginCacheError, match=DAMAGED):
        ids(shard, 0, 3)
    assert not shard.exists()
    got += rows
    assert [each.equals(other) for each, other in zip(got, expected, strict=True)] == [True] * 8
