"""Files are complete or absent, locks exclude other processes."""

import errno
import fcntl
import os
import select
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage import files
from margin_cache.storage.files import (
    acquire_lock,
    atomic_files,
    atomic_path,
    content_digest,
    exclusive_lock,
    file_digest,
    has_size,
    is_locked,
    is_temporary,
    link_or_copy,
    read_json,
    size_text,
    with_file_name,
    write_json,
    write_text,
)
from support.full_disks import files_end_at
from support.paths import ROOT
from support.unprivileged import raised_without_privileges


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- atomic_path ----------------------------------------------------------------------------


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent and is_temporary(temporary.name)
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names_in(path.parent) == ["file"]


def test_errors_of_writing_have_the_final_name(tmp_path: Path) -> None:
    """A system that has no room, as PyArrow and as Python say it, names no file."""
    path = tmp_path / "file"
    table = pa.table({"x": np.arange(10_000)})
    with pytest.raises(OSError) as caught, atomic_path(path) as temporary, files_end_at(1000):
        pq.write_table(table, temporary)
    assert (caught.value.filename, caught.value.errno) == (str(path), errno.EFBIG)
    assert caught.value.strerror == "File too large"
    with pytest.raises(OSError) as caught, files_end_at(1000):
        write_text(path, "x" * 2000)
    assert (caught.value.filename, caught.value.strerror) == (str(path), "File too large")
    with pytest.raises(FileNotFoundError) as caught, atomic_path(path) as temporary:
        temporary.read_text()
    assert caught.value.filename == str(path)
    assert names_in(tmp_path) == []


def test_errors_about_another_file_keep_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "file"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")


def test_errors_of_reading_have_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, with_file_name(tmp_path / "file"):
        raise OSError("the disk is on fire")
    assert caught.value.filename == str(tmp_path / "file")
    assert caught.value.strerror == "the disk is on fire"


def test_errors_of_pyarrow_become_one_line_with_the_file_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(MarginCacheError) as caught, atomic_path(path):
        raise pa.ArrowInvalid("no such value\nat all")
    assert str(caught.value) == f"{path}: cannot be written (no such value)"
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file_only(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert names_in(tmp_path) == ["file"]


def test_empty_block_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    assert names_in(tmp_path) == []


def test_concurrent_writers_do_not_conflict(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_path(path) as one, atomic_path(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # which ended last
    assert names_in(tmp_path) == ["file"]


def test_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []

    def fsync(descriptor: int) -> None:
        assert not path.exists()
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_text(path, "content")
    assert synced == [7] and path.exists()


def test_many_files_are_complete_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MAX_OPEN", 7)
    contents = {tmp_path / f"{n % 3}" / f"{n}": pa.py_buffer(bytes([n]) * n) for n in range(20)}
    with atomic_files() as write:
        for path, content in contents.items():
            write(path, content)
        # All that are open at once, and no others, wait for the end.
        assert sum(path.exists() for path in contents) == 14
    for path, content in contents.items():
        assert path.read_bytes() == content.to_pybytes()
        assert file_digest(path) == content_digest(content)
    assert sum(file.is_file() for file in tmp_path.rglob("*")) == len(contents)


def test_many_files_are_flushed_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "0").exists()
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with atomic_files() as write:
        for number in range(3):
            write(tmp_path / f"{number}", pa.py_buffer(bytes(number)))
    assert synced == [0, 1, 2] and names_in(tmp_path) == ["0", "1", "2"]


def test_error_of_many_files_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, files_end_at(1000), atomic_files() as write:
        for number in range(9):
            write(tmp_path / f"{number}", pa.py_buffer(bytes(999 + number)))
    assert Path(caught.value.filename) == tmp_path / "2"
    assert names_in(tmp_path) == []


def test_failed_block_leaves_no_files_and_no_descriptors(tmp_path: Path) -> None:
    open_before = len(names_in(Path("/proc/self/fd")))
    with pytest.raises(KeyError), atomic_files() as write:
        write(tmp_path / "0", pa.py_buffer(b"x"))
        raise KeyError
    assert names_in(tmp_path) == []
    assert len(names_in(Path("/proc/self/fd"))) == open_before


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        *((".a.0123456789ab.tmp", True), (".a.0123.tmp", False), ("a.0123456789ab.tmp", False)),
        *((".a.0123456789AB.tmp", False), ("..0123456789ab.tmp", False), (".notes.tmp", False)),
        *(("a.tmp", False), (".a", False), (".notes.txt", False), ("a", False)),
    ],
)
def test_temporary_names_are_recognized(name: str, temporary: bool) -> None:
    assert is_temporary(name) == temporary


# --- text, JSON, digests --------------------------------------------------------------------


def test_text_is_utf_8_and_json_round_trips(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "ö☆\n")
    assert (tmp_path / "text").read_bytes() == "ö☆\n".encode()
    value = {"name": "é☆", "list": [1, 2.5, None], "deep": {"x": True}}
    write_json(tmp_path / "json", value)
    text = (tmp_path / "json").read_text(encoding="utf-8")
    assert text.startswith('{\n    "name": "é☆",\n') and text.endswith("}\n")
    assert read_json(tmp_path / "json") == value


@pytest.mark.parametrize("content", [None, b"", b'{"half": ', b"\xff\xfe{}"])
def test_missing_or_damaged_json_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert read_json(tmp_path / "file") is None
    assert read_json(tmp_path / "file" / "below") is None


def test_size_of_a_missing_file_never_matches(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    assert has_size(tmp_path / "file", 3)
    assert not has_size(tmp_path / "file", 2)
    assert not has_size(tmp_path / "none", 0)


def test_digest_depends_on_the_content_only(tmp_path: Path) -> None:
    large = bytes(3_000_000)
    for name, content in {
        "a": large,
        "b": large,
        "c": large[:-1] + b"x",
        "d": large + b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
    found = [file_digest(tmp_path / name) for name in "abcd"]
    assert found[0] == found[1] and len(set(found)) == 3
    # As b2sum -l 64 has it: digests are in receipts, which later versions have to understand.
    (tmp_path / "e").write_bytes(b"abc")
    assert file_digest(tmp_path / "e") == "d8bb14d833d59559"


@pytest.mark.parametrize("links", [True, False])
def test_link_or_copy_works_with_and_without_hard_links(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_text("content")

    def no_links(*paths: Path) -> None:
        raise PermissionError("no hard links here")

    if not links:
        monkeypatch.setattr(files.os, "link", no_links)
    link_or_copy(source, target)
    assert target.read_text() == source.read_text() == "content"
    assert target.samefile(source) == links
    assert names_in(target.parent) == ["target"]


def test_link_or_copy_follows_links_and_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    link_or_copy(tmp_path / "link", tmp_path / "second")
    assert (tmp_path / "second").samefile(tmp_path / "file")
    assert not (tmp_path / "second").is_symlink()
    (tmp_path / "other").write_text("other")
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "file", tmp_path / "other")
    assert (tmp_path / "other").read_text() == "other"


# --- locks ----------------------------------------------------------------------------------


TAKE_LOCK = """
import sys
from pathlib import Path
from margin_cache.storage.files import exclusive_lock
print("started", flush=True)
with exclusive_lock(Path(sys.argv[1])):
    print("taken", flush=True)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_lock_excludes_other_processes_until_released(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    path.mkdir() if kind == "directory" else path.touch()
    command = [sys.executable, "-c", TAKE_LOCK, path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        try:
            with exclusive_lock(path):
                assert other.stdout.readline() == "started\n"
                assert not select.select([other.stdout], [], [], 0.2)[0], "two hold the lock"
            assert select.select([other.stdout], [], [], 20)[0], "it is not released"
            assert other.stdout.readline() == "taken\n"
        finally:
            other.kill()


def test_failed_block_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in the block"), exclusive_lock(tmp_path):
        raise ValueError("in the block")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_missing_file_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive_lock(tmp_path / "none"):
        pass


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_lock_file_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    old = os.umask(umask)
    try:
        descriptor = acquire_lock(tmp_path / "lock", "")
    finally:
        os.umask(old)
    assert descriptor is not None
    os.close(descriptor)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == mode


def test_lock_that_cannot_be_written_to_is_recognized(tmp_path: Path) -> None:
    """As that of another user."""

    def say(path: Path) -> None:
        raise RuntimeError(f"held: {is_locked(path)}")

    lock = tmp_path / "lock"
    descriptor = acquire_lock(lock, "")
    assert descriptor is not None
    lock.chmod(0o444)
    assert raised_without_privileges(partial(say, lock)) == "RuntimeError: held: True"
    os.close(descriptor)
    assert raised_without_privileges(partial(say, lock)) == "RuntimeError: held: False"


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1000, "1 kB"),
        (3_857_414, "3.86 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1 GB"),
        (2.5e12, "2.5 TB"),
        (1e17, "100 PB"),
    ],
)
def test_size_text_has_three_digits(size: float, text: str) -> None:
    assert size_text(size) == text
