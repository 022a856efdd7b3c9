"""Exceptions that reach a user as a single line."""


class MarginCacheError(Exception):
    """An error in the user's input, configuration or file system.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """


class RetryableError(MarginCacheError):
    """A transient error, such as a server that does not answer: another attempt may succeed."""
