"""Directories are replaced, not merged, and half of one is not taken for all of it."""

import errno
from pathlib import Path

import pytest
from margin_cache.storage import directories
from margin_cache.storage.directories import delete_directory, replace_directory


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("left_over", [False, True])
def test_a_directory_takes_the_place_of_another_and_is_not_merged_with_it(
    before: bool, left_over: bool, tmp_path: Path
) -> None:
    new, target, old = (tmp_path / name for name in ("new", "target", "old"))
    for directory, there in ((new, True), (target, before), (old, before and left_over)):
        if there:
            directory.mkdir()
            (directory / directory.name).touch()
    replace_directory(new, target, old)
    assert names_in(tmp_path) == ["target"]
    assert names_in(target) == ["new"]


def test_what_was_there_stays_if_there_is_nothing_to_replace_it_with(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    with pytest.raises(FileNotFoundError, match="new"):
        replace_directory(tmp_path / "new", target, tmp_path / "old")
    assert names_in(tmp_path) == ["target"] and names_in(target) == ["file"]


def test_what_was_there_is_put_back_if_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new, old = (tmp_path / name for name in ("target", "new", "old"))
    for directory in (target, new):
        directory.mkdir()
        (directory / directory.name).touch()
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self == new:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        replace_directory(new, target, old)
    assert names_in(tmp_path) == ["new", "target"] and names_in(target) == ["target"]


def test_a_directory_that_may_not_be_deleted_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another user; a run that finds its margin complete has not failed for that."""

    def refuse(self: Path, to: Path) -> Path:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "directory"
    path.mkdir()
    (path / "file").touch()
    monkeypatch.setattr(Path, "rename", refuse)
    delete_directory(path)
    assert names_in(tmp_path) == ["directory"] and names_in(path) == ["file"]


@pytest.mark.parametrize("interrupted", [False, True])
def test_half_of_a_directory_is_not_taken_for_all_of_it(
    tmp_path: Path, interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "directory"
    path.mkdir()
    (path / "file").touch()
    if interrupted:
        with monkeypatch.context() as patch:
            patch.setattr(directories.shutil, "rmtree", lambda path, ignore_errors: None)
            delete_directory(path)
        (left,) = tmp_path.iterdir()
        assert left.name == "directory.deleted"
        path.mkdir()
        delete_directory(path)
        assert names_in(tmp_path) == []
        left.mkdir()
        path = left
    delete_directory(path)
    assert names_in(tmp_path) == []
    delete_directory(path)
