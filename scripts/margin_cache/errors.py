"""The one exception that reaches a user as a single line."""


class MarginCacheError(Exception):
    """Something in the user's input, configuration or file system that the message can name.

    The message is one line: the key or file, what is wrong with it and what to do about it.
    """
