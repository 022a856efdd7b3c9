"""The configuration of a run.

``model`` has the keys with types, limits and defaults; ``validation`` checks a configuration and a
command. docs/write_reference.py documents the keys.
"""
