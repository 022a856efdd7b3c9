"""Exceptions that reach a user as a single line."""

from pathlib import Path


class MarginCacheError(Exception):
    """An error in the user's input, configuration or file system.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """


class DamagedFileError(MarginCacheError):
    """An intermediate file is damaged or missing; the next run makes it again."""

    def __init__(self, path: Path, problem: str = "is missing or damaged") -> None:
        super().__init__(f"{path}: {problem}. Start the run again; it makes the file again.")


class RetryableError(MarginCacheError):
    """A transient error, such as a server that does not answer: another attempt may succeed."""
