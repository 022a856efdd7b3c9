"""Calls by a user whom permissions apply to, since tests may run as root."""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that anybody can get into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def raised_to_nobody(call: Callable[[], object]) -> str:
    """Type and text of what a call raises in a process without privileges; "" if nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            call()
        except BaseException as error:
            os.write(writing, "".join(traceback.format_exception_only(error)).strip().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
