"""Read all columns of all partitions of a catalog with one thread, and do nothing with them.

The least that a tool takes which reads everything once.
"""

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path


class _NoPandas(MetaPathFinder):
    """Keeps pandas out, which PyArrow would import for nothing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=fullname)


sys.meta_path.insert(0, _NoPandas())

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

pa.set_cpu_count(1)
for file in Path(sys.argv[1]).rglob("Npix=*.parquet"):
    pq.ParquetFile(file).read(use_threads=False)
