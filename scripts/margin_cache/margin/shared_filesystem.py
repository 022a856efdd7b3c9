"""Whether the machine that runs a job sees the files of its run.

On a cluster they must be on file systems that all nodes see. Without this check a job would make
directories of its own, and other jobs would miss its files.
"""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from margin_cache.errors import RetryableError

PATIENCE = 10.0
"""Time in which a file server shows what another machine has written (seconds)."""


def wait_until(is_visible: Callable[[], bool], directory: Path) -> bool:
    """Return whether a file becomes visible within ``PATIENCE``.

    Its directory is listed again and again, which makes a network file system ask its server.
    """
    end = time.monotonic() + PATIENCE
    while not is_visible():
        if time.monotonic() >= end:
            return False
        time.sleep(min(1.0, PATIENCE / 5))
        with suppress(OSError):
            next(directory.iterdir(), None)
    return True


def not_visible(key: str, path: Path) -> RetryableError:
    """Return the error for a path, of a key of the configuration, that this machine does not see.

    Another node may see it.
    """
    node = os.environ.get("SLURMD_NODENAME", platform.node())
    return RetryableError(
        f"{key}: {path.absolute()} is not visible on {node}, which runs a job. Use a file system "
        "that all nodes see."
    )


def check_visible(directory: Path, partition: str = "") -> None:
    """Check that the machine that runs a job sees the files of its run.

    Args:
        directory: a directory that the main process has made beside the margin.
        partition: a partition file that the job reads; "" if it reads none.

    Raises:
        RetryableError: one is not visible here.
    """
    if not wait_until(directory.exists, directory.parent):
        raise not_visible("output_path", directory.parent)
    if partition:
        path = Path(partition)
        if not wait_until(path.exists, path.parent):
            raise not_visible("input_catalog_path", path)
