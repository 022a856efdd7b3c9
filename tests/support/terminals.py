"""Commands in a terminal of their own: what they write there, and what is seen of it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

from support.signals import default_signals

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")


class Output(NamedTuple):
    """What a command has written: its parts with their times since the start [s]."""

    code: int
    parts: list[tuple[float, str]]

    @property
    def text(self) -> str:
        return "".join(part for _, part in self.parts)

    def screens(self) -> list[list[str]]:
        """The lines that were seen after each part."""
        screen = Screen()
        seen = []
        for _, part in self.parts:
            screen.write(part)
            seen.append(screen.lines())
        return seen


class Screen:
    """The lines of a terminal that is high and wide enough for all."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for match in _CONTROL.finditer(text):
            if match[2]:
                self._move(match[1], match[2])
            elif match[0] == "\r":
                self.column = 0
            elif match[0] == "\n":
                self.row += 1
                self.rows += [[]] * 0 if self.row < len(self.rows) else [[]]
            else:
                self._put(match[0])

    def _move(self, number: str, letter: str) -> None:
        """Follow a control sequence; those of colours change nothing that is looked at."""
        if letter == "A":
            self.row = max(0, self.row - int(number or 1))
        elif letter == "K":
            del self.rows[self.row][self.column :]
        else:
            assert letter == "m", f"a sequence that is not known: {letter}"

    def _put(self, text: str) -> None:
        row = self.rows[self.row]
        row += [" "] * (self.column - len(row))
        row[self.column : self.column + len(text)] = text
        self.column += len(text)

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


@contextmanager
def pseudo_terminal(rows: int, columns: int) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Yield a terminal to write to, and a function that reads what was written.

    With 0 rows and columns it is one of unknown size.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123  # has no path
            yield stream, lambda: os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)


class Process(Protocol):
    """What is asked of a command at work."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float = ...) -> int: ...


def start_command(words: list[str], terminal: Path, environment: dict[str, str]) -> Process:
    """Start a command whose input and output are a terminal."""
    with terminal.open("r+b", buffering=0) as stream:
        return subprocess.Popen(
            words,
            stdin=stream,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=default_signals,
            env=environment,
        )


def run_in_terminal(
    command: Iterable[str | Path],
    environment: Mapping[str, str],
    rows: int = 40,
    columns: int = 100,
    kind: str = "xterm-256color",
    limit: float = 300,
    start: Callable[[list[str], Path, dict[str, str]], Process] = start_command,
) -> Output:
    """Run a command whose input and output are a terminal of some rows and columns.

    Args:
        start: starts it, given its words, its terminal and its environment.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    words = [str(word) for word in command]
    begin = time.monotonic()
    process = start(
        words, Path(os.ttyname(theirs)), {**environment, "TERM": kind, "LC_ALL": "C.UTF-8"}
    )
    parts, rest = [], b""
    try:
        while time.monotonic() - begin < limit:
            has_ended = process.poll() is not None
            readable, *_ = select.select([ours], [], [], 0 if has_ended else 0.05)
            if not readable:
                if has_ended:
                    break
                continue
            data = os.read(ours, 1 << 16)
            text = (rest + data).decode("utf-8", "ignore")
            rest = (rest + data)[len(text.encode()) :]
            parts.append((time.monotonic() - begin, text))
        code = process.wait(timeout=limit)
    finally:
        os.close(ours)
        os.close(theirs)
    return Output(code, parts)
