"""Exceptions that reach a user as a single line."""

FINAL = "Another attempt would end in the same way."
"""What the log of a job has before an error that no further attempt can mend."""


class MarginCacheError(Exception):
    """Something in the user's input, configuration or file system that the message can name.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """


class PassingError(MarginCacheError):
    """One that another attempt may not meet, as that of a file server which does not answer."""
