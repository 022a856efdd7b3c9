"""Files, directories and object stores.

`files` writes files atomically, locks them, and replaces whole directories;
`parquet_files` opens Parquet files safely. `catalog_files` is the interface to the files of a
catalog, on disk or, with `remote_files`, behind a URL. `object_store` is the interface to stores;
`obstore_store` and `fsspec_store` implement it, with the options that `store_options` translates;
`urls` checks URLs.
"""
