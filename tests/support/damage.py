"""Damage to files, as disks, copies and networks do it."""

import os
import random
from collections.abc import Callable
from pathlib import Path


def _flip_bit(content: bytearray, rng: random.Random) -> str:
    at, bit = _offset(content, rng), rng.randrange(8)
    content[at] ^= 1 << bit
    return f"{bit} at {at} of {len(content)}"


def _set_byte(content: bytearray, rng: random.Random) -> str:
    at = _offset(content, rng)
    content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return f"at {at} of {len(content)}"


def _fill_block(content: bytearray, rng: random.Random) -> str:
    start, stop = _block(content, rng)
    value = rng.choice((0, 0xFF))
    content[start:stop] = bytes([value]) * (stop - start)
    return f"{start} to {stop} of {len(content)} with {value}"


def _scramble_block(content: bytearray, rng: random.Random) -> str:
    start, stop = _block(content, rng)
    content[start:stop] = rng.randbytes(stop - start)
    return f"{start} to {stop} of {len(content)}"


def _move_block(content: bytearray, rng: random.Random) -> str:
    start, stop = _block(content, rng)
    to = rng.randrange(len(content) - (stop - start) + 1)
    content[to : to + stop - start] = content[start:stop]
    return f"{start} to {stop} of {len(content)} to {to}"


def _truncate(content: bytearray, rng: random.Random) -> str:
    length = rng.randrange(len(content))
    del content[length:]
    return f"to {length}"


def _append(content: bytearray, rng: random.Random) -> str:
    content += rng.choice((bytes(100), b"PAR1", bytes(content[-50:])))
    return f"to {len(content)}"


def _offset(content: bytearray, rng: random.Random) -> int:
    """A byte of a file: a third of them near its end, where footers are."""
    if rng.random() < 1 / 3:
        return max(0, len(content) - 1 - int(rng.expovariate(1 / 400)))
    return rng.randrange(len(content))


def _block(content: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _offset(content, rng)
    return start, min(len(content), start + rng.choice((2, 8, 64, 512, 4096)))


DAMAGES: dict[str, Callable[[bytearray, random.Random], str]] = {
    "flip a bit": _flip_bit,
    "set a byte": _set_byte,
    "fill a block": _fill_block,
    "scramble a block": _scramble_block,
    "move a block": _move_block,
    "truncate": _truncate,
    "append": _append,
}


def damage(path: Path, how: str, rng: random.Random) -> str:
    """Damage a file in place, with its time of change kept; return where.

    Args:
        path: the file, not empty.
        how: a key of DAMAGES.
        rng: random numbers.
    """
    state = path.stat()
    content = bytearray(path.read_bytes())
    what = DAMAGES[how](content, rng)
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return what
