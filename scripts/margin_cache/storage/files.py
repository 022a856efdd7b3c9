"""Atomic writes, digests and locks of files, and whole directories.

A reader sees a complete file or directory, or none.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from margin_cache.errors import MarginCacheError

_MAX_OPEN = 128  # files that `atomic_files` has open; some systems allow a process only 256

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp", re.DOTALL)
"""Names of temporary files. Other hidden files are somebody else's."""

_DELETED = ".deleted"  # suffix of directories that are being deleted


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` when the block ends without an error.

    The temporary name is unique, so two copies of one job can write the same file at once. The
    file is flushed to disk before it is renamed, and its directory is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, unique_id())
    try:
        with with_file_name(path, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except pa.ArrowException as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MarginCacheError(f"{path}: cannot be written ({reason})") from error
    finally:
        with suppress(OSError):  # unless it was renamed
            temporary.unlink()


@contextmanager
def atomic_files() -> Iterator[Callable[[Path, pa.Buffer], None]]:
    """Yield a function that writes a file atomically, but not at once.

    All files are renamed when the block ends without an error. Flushing many small files together
    takes hardly longer than flushing one.
    """
    opened: list[tuple[Path, Path, BinaryIO]] = []
    suffix = unique_id()

    def write(path: Path, content: pa.Buffer) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path, suffix)
        with with_file_name(path, temporary):
            file = temporary.open("xb")
            opened.append((path, temporary, file))
            file.write(content)
            file.flush()
            if hasattr(os, "posix_fadvise"):
                # Linux begins to write the file to disk now.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if len(opened) == _MAX_OPEN:
            flush()

    def flush() -> None:
        for path, temporary, file in opened:
            with with_file_name(path, temporary):
                os.fsync(file.fileno())
        for path, temporary, file in opened:
            with with_file_name(path, temporary):
                temporary.replace(path)
            file.close()
        opened.clear()

    try:
        yield write
        flush()
    finally:
        for _, temporary, file in opened:
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                temporary.unlink()


def unique_id() -> str:
    return uuid.uuid4().hex[:12]


def temporary_beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}.tmp")


def is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def with_file_name(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Add the file's name to system errors without one, and hide its ``temporary`` path."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(temporary):
            raise
        # PyArrow's text of a system error is longer than the system's own.
        reason = os.strerror(error.errno) if error.errno else str(error).strip()
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def rewrite_text(path: Path, text: str) -> None:
    """Replace a text file, or the file that a link leads to, which keeps its mode."""
    path = path.resolve()
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        shutil.copymode(path, temporary)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented by four as hipscat does."""
    write_text(path, json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it is missing or not JSON."""
    try:
        with with_file_name(path):
            return json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def size_text(size: float) -> str:
    """Format a number of bytes with three digits and a unit."""
    units = iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while size >= 999.5 and (larger := next(units, None)):
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def content_digest(content: pa.Buffer) -> str:
    """Return the `file_digest` of a file with this content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    with with_file_name(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where hard links are impossible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Of a symbolic link, `os.link` would make another one.
        os.link(source.resolve() if source.is_symlink() else source, target)
    except FileExistsError:
        raise
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copy2(source, temporary)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock of an existing file or directory; wait while another process has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def acquire_lock(path: Path, text: str) -> int | None:
    """Lock a file, with a text in it, until this process ends; return None if it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # some network file systems have no locks
        pass
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode())
    return descriptor


def is_locked(path: Path) -> bool:
    """Return whether a process has locked a file; True if that is unknown."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # Needs no permission to write, on NFS neither.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def replace_directory(new: Path, target: Path, backup: Path) -> None:
    """Move a directory to `target`; the old one is at `backup` meanwhile."""
    if not new.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new))
    if target.exists():
        delete_directory(backup)
        target.rename(backup)
    try:
        new.rename(target)
    except OSError:
        if backup.exists() and not target.exists():
            backup.rename(target)
        raise
    delete_directory(backup)


def delete_directory(path: Path) -> None:
    """Delete a directory as far as permitted; it need not exist.

    It is renamed first, so that an interrupted deletion does not leave an incomplete directory
    under its name. `path` may also be the name that an interrupted deletion has left.
    """
    if not path.name.endswith(_DELETED):
        complete, path = path, path.with_name(f"{path.name}{_DELETED}")
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it does not exist, or is another user's
            complete.rename(path)
    shutil.rmtree(path, ignore_errors=True)
