"""Exceptions that reach a user as a single line."""

import re

_names: dict[str, str] = {}


def call(path: str, name: str) -> None:
    """Have messages name a path, and all that lies in it, in another way.

    Args:
        path: as it stands in messages.
        name: what users know it by, as the URL that a local directory stands for.
    """
    _names[path] = name


def in_users_words(text: str) -> str:
    """Return a text with paths named as ``call`` was told to."""
    for path in sorted(_names, key=len, reverse=True):
        # The whole of a path, or its beginning: not a part of a name, nor what lies in another.
        whole = rf"(?<![\w./-]){re.escape(path)}(?![\w.-])"
        text = re.sub(whole, _names[path].replace("\\", r"\\"), text)
    return text


class MarginCacheError(Exception):
    """Something in the user's input, configuration or file system that the message can name.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """

    def __str__(self) -> str:
        """Return the message, with paths as users know them."""
        return in_users_words(super().__str__())


class RetryableError(MarginCacheError):
    """An error that another attempt may not meet, such as a server that does not answer."""
