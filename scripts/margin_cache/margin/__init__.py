"""Makes margins: the work of the jobs, and all files of a margin.

``prepare`` checks catalogs and directories, plans margins and locks them. ``map``, ``reduce`` and
``finish`` are the jobs; ``shard`` is the file that passes from map to reduce. ``output`` is where a
margin is put: a directory, or with ``store_output`` an object store. ``existing`` tells what is
done and what may be replaced; ``forecast`` what a margin will take. ``model`` is a margin with its
settings and plan, and ``paths`` are its files. ``remote`` is how jobs reach catalogs and margins
at URLs.
"""
