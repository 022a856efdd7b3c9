"""Reading the Parquet files of partitions.

- ``partition_file``: opens a partition's files; spatial index and coordinates of all rows, checked
- ``row_selection``: all columns of selected rows
- ``footers``: sizes, ranges and types of columns, by the footer of a file; joining of footers
- ``primary_options``: how the files of a primary are written, as its margins are too
- ``remote_reader``: fetches parts of the files of a remote catalog
"""
