"""Calls to which permissions apply, since tests may run as root."""

import ctypes
import os
import struct
import traceback
from collections.abc import Callable

_CAPABILITIES_VERSION = 0x20080522


def drop_privileges() -> None:
    """Have the permissions of files apply to this process, even if it is of root.

    Root gives up all capabilities, as in capset(2). It remains the owner of its files, so that it
    can still import what only root can read.
    """
    if os.getuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        if library.capset(struct.pack("=Ii", _CAPABILITIES_VERSION, 0), bytes(24)):
            raise OSError(ctypes.get_errno(), "capset")


def raised_without_privileges(call: Callable[[], object]) -> str:
    """Type and text of what a call raises in a process without privileges; "" if nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            drop_privileges()
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
