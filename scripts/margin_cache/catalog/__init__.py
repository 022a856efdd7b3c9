"""HiPSCat and HATS catalogs.

- ``spec``: file names, keys and columns of both formats
- ``formats``: which format a catalog has; ``hats`` and ``hipscat``: their differences
- ``model``: a catalog's description, its partitions, and a partition
- ``partitions``: lists the partitions, returns their files, notices changes and missing rows
- ``columns``: schemas of a catalog and its shards; spatial index and coordinates of rows
- ``remote``: catalogs behind a URL
"""
