"""Writing files so that a reader sees a whole file or none."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from margin_cache.errors import MarginCacheError

_MOST_STARTED = 128
"""How many files are open at once, of which systems allow no more than 256 by default."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp", re.DOTALL)
"""What a file is called until it is whole. Other hidden files are somebody else's."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, which it replaces when the block ends well.

    The temporary name is unique, so two copies of one job can write the same file at once. The
    file is flushed to disk before it gets its name.

    Args:
        path: the file to write; its directory is made if it is missing.

    Raises:
        OSError: it cannot be written; the error names it.
        MarginCacheError: PyArrow cannot make its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, unique_id())
    try:
        with with_file_name(path, temporary):
            yield temporary
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, pa.ArrowException):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MarginCacheError(f"{path}: cannot be written ({reason})") from error


@contextmanager
def atomic_files() -> Iterator[Callable[[Path, pa.Buffer], None]]:
    """Give a function that writes a file of some content as ``atomic_path`` does, yet not at once.

    Waiting until one small file is on the disk takes longer than making it, and for many no longer
    than for one. When the block ends well, all files are there.

    Raises:
        OSError: a file cannot be written; the error names it.
    """
    started: list[tuple[Path, Path, int]] = []
    directories: set[Path] = set()
    mark = unique_id()

    def write(path: Path, content: pa.Buffer) -> None:
        if path.parent not in directories:
            path.parent.mkdir(parents=True, exist_ok=True)
            directories.add(path.parent)
        temporary = temporary_beside(path, mark)
        with with_file_name(path, temporary):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            started.append((path, temporary, descriptor))
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if hasattr(os, "posix_fadvise"):
                # Linux begins to write it now.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if len(started) == _MOST_STARTED:
            end()

    def end() -> None:
        for path, temporary, descriptor in started:
            with with_file_name(path, temporary):
                os.fsync(descriptor)
        while started:
            path, temporary, descriptor = started[-1]
            with with_file_name(path, temporary):
                temporary.replace(path)
            started.pop()
            os.close(descriptor)

    try:
        yield write
        end()
    finally:
        for _, temporary, descriptor in started:
            os.close(descriptor)
            with suppress(OSError):
                temporary.unlink()


def unique_id() -> str:
    """Return what tells the files of one process from those of another, in their names."""
    return uuid.uuid4().hex[:12]


def temporary_beside(path: Path, mark: str) -> Path:
    """Return what a file is called until it is whole; another writer of it has another mark."""
    return path.with_name(f".{path.name}.{mark}.tmp")


@contextmanager
def with_file_name(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Have errors of the system that name no file, as of a full disk, name one.

    Args:
        path: the file that is read or written.
        temporary: what it is called meanwhile, which errors shall not name either.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(temporary):
            raise
        # PyArrow's own words for an error of the system are longer than those of the system.
        reason = os.strerror(error.errno) if error.errno else str(error).strip()
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def rewrite_text(path: Path, text: str) -> None:
    """Change a text file atomically, in UTF-8. It keeps its mode, its owner and its place by links.

    The owner only as far as this process may give files away.
    """
    path = path.resolve()
    state = path.stat()
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        for owner in ((-1, state.st_gid), (state.st_uid, -1)):
            with suppress(OSError):
                os.chown(temporary, *owner)
        temporary.chmod(stat.S_IMODE(state.st_mode))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented by four as hipscat does."""
    write_text(path, json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def check_ordinary(path: Path) -> None:
    """Check that a path does not lead to a pipe, a socket or a device.

    Whoever reads one waits for ever, or never comes to its end.

    Raises:
        MarginCacheError: it does.
    """
    with suppress(OSError):
        if not is_ordinary(path.stat()):
            raise MarginCacheError(
                f"{path}: is a pipe, a socket or a device, not a file; remove it, and copy the "
                "file that is due there"
            )


def is_ordinary(state: os.stat_result) -> bool:
    """Tell whether the state of a path is that of a file or a directory."""
    return stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it is missing or not JSON."""
    check_ordinary(path)
    try:
        with with_file_name(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one of an interrupted ``atomic_path``."""
    return _TEMPORARY.fullmatch(name) is not None


def device_and_inode(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or directory from all others, or None of a broken link."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def has_size(path: Path, size: int) -> bool:
    """Tell whether a file exists and has a size in bytes."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def content_digest(content: pa.Buffer) -> str:
    """Return the ``file_digest`` of a file with a content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """Return a digest of a file's content."""
    with with_file_name(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file, or what a link leads to, a second name; copy it where there are no hard links.

    Args:
        source: the file, whose content is on the disk.
        target: its new name.

    Raises:
        FileExistsError: there is something of that name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copy2(source, temporary)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the only lock on a file or directory; another process that wants it waits.

    Without effect on a network file system that has no locks.

    Raises:
        FileNotFoundError: there is nothing of that name.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def acquire_lock(path: Path, text: str) -> int | None:
    """Lock a file until this process ends, and write into it who has it.

    Without effect on a network file system that has no locks.

    Args:
        path: the file, made if it is missing; its directory exists.
        text: what is written into it.

    Returns:
        The file's descriptor, to be kept open; None if another process has the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode())
    return descriptor


def is_locked(path: Path) -> bool:
    """Tell whether a process has locked a file; also if that cannot be known."""
    try:
        descriptor = _open_lock(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open_lock(path: Path) -> int:
    """Open a file to try its lock; for reading alone, which NFS refuses, if it is another's."""
    try:
        return os.open(path, os.O_RDWR)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(size: float) -> str:
    """Return a number of bytes in the unit in which it has few digits."""
    power = 0
    while size >= 999.5 and power < len(_UNITS) - 1:
        size /= 1000
        power += 1
    return f"{size:.3g} {_UNITS[power]}"
