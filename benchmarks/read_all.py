"""Read all columns of all partitions of a catalog with one thread, and do nothing with them.

The least that a tool takes which reads everything once.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

from margin_cache.command_line import keep_pandas_out

keep_pandas_out()

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

pa.set_cpu_count(1)
for file in Path(sys.argv[1]).rglob("Npix=*.parquet"):
    pq.ParquetFile(file).read(use_threads=False)
