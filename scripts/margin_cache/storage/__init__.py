"""Files, directories and object stores.

`files` writes files atomically, locks them, and replaces whole directories. `catalog_files` is the
interface to the files of a catalog, on disk or, with `remote_files`, behind a URL. `object_store`
is the interface to stores; `obstore_store` implements it for most of them. `urls` checks URLs.
"""
