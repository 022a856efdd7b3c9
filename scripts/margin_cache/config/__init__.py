"""The configuration of a run.

``model`` has the keys with types, limits and defaults; ``validation`` checks a configuration, by
other rules too, and a command. docs/write_reference.py documents the keys.
"""
