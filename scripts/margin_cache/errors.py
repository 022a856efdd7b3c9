"""Exceptions that reach a user as a single line."""

import re

_names: dict[str, str] = {}


def show_as(path: str, name: str) -> None:
    """Show a local path, and the paths below it, under another name in messages: a URL."""
    _names[path] = name


def with_urls(text: str) -> str:
    """Replace the paths of local listings and downloads in a text by their URLs."""
    for path in sorted(_names, key=len, reverse=True):
        # Match a whole path, or the beginning of a longer one, but no part of a name.
        whole = rf"(?<![\w./-]){re.escape(path)}(?![\w.-])"
        text = re.sub(whole, _names[path].replace("\\", r"\\"), text)
    return text


class MarginCacheError(Exception):
    """An error in the user's input, configuration or file system.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """

    def __str__(self) -> str:
        """Return the message, with URLs instead of the paths of local listings."""
        return with_urls(super().__str__())


class RetryableError(MarginCacheError):
    """A transient error, such as a server that does not answer: another attempt may succeed."""
