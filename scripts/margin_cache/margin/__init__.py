"""Makes margins: the work of the jobs, and all files of a margin.

``prepare`` checks catalogs and directories and plans margins; ``start_run`` locks them and saves
what jobs need. ``map``, ``reduce`` and ``finish`` are the jobs; ``shard`` and ``receipts`` are the
files that pass from one job to the next. ``output`` is where a margin is put: a directory, or
with ``store_output`` an object store. ``existing_output`` judges what is there, and
deletes what interrupted runs have left. ``model`` is a margin with its settings and plan, and
``paths`` are its files. ``remote_input`` and ``storage_options`` are for catalogs at URLs.
"""
