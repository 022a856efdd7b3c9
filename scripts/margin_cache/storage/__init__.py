"""Files, directories and object stores.

`files` writes files atomically, locks them, and replaces whole directories;
`parquet_files` opens Parquet files safely. `urls` checks URLs; `local_listing` shows remote
catalogs as sparse local files; `object_store` is the interface to stores, `store_client` adds
retries, and `http_store`, `s3_store` and `fsspec_store` implement it.
"""
