"""Work that is done as a user who may not do everything; tests may run as one who may."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65534


def as_nobody(directory: Path, work: Callable[[], Any]) -> BaseException | None:
    """Do some work in a child that has no rights but those that everybody has.

    Args:
        directory: made accessible to everybody, with all above it that this user owns.
        work: the work.
    Returns:
        the error that it ended with, if any.
    """
    for path in (directory, *directory.parents):
        if path.stat().st_uid == os.getuid() and path != Path(path.anchor):
            path.chmod(path.stat().st_mode | 0o011)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        found: BaseException | None = None
        try:
            if not os.getuid():
                os.setgroups([])
                os.setuid(NOBODY)
            work()
        except BaseException as error:
            found = error
        os.write(writing, pickle.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(content)
