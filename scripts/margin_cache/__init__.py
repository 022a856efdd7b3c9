"""Exact margin caches of HEALPix-partitioned catalogs: the library behind the workflow's scripts."""

__version__ = "0.1.0"
