"""Directories are replaced, not merged, and a partly deleted one has another name."""

import errno
from pathlib import Path

import pytest
from margin_cache.storage import files
from margin_cache.storage.files import delete_directory, replace_directory


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("left_over", [False, True])
def test_directory_is_replaced_and_not_merged(
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


def test_old_directory_stays_if_the_new_one_is_missing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    with pytest.raises(FileNotFoundError, match="new"):
        replace_directory(tmp_path / "new", target, tmp_path / "old")
    assert names_in(tmp_path) == ["target"] and names_in(target) == ["file"]


def test_old_directory_is_restored_if_the_new_one_cannot_be_moved(
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


def test_directory_that_cannot_be_renamed_stays_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance one of another user; it is not an error."""

    def refuse(self: Path, to: Path) -> Path:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "directory"
    path.mkdir()
    (path / "file").touch()
    monkeypatch.setattr(Path, "rename", refuse)
    delete_directory(path)
    assert names_in(tmp_path) == ["directory"] and names_in(path) == ["file"]


@pytest.mark.parametrize("interrupted", [False, True])
def test_interrupted_deletion_leaves_another_name(
    tmp_path: Path, interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "directory"
    path.mkdir()
    (path / "file").touch()
    if interrupted:
        with monkeypatch.context() as patch:
            patch.setattr(files.shutil, "rmtree", lambda path, ignore_errors: None)
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
