"""Exact margin caches of HEALPix-partitioned catalogs: the library behind the scripts."""

__version__ = "0.1.0"
