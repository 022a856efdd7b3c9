"""Read all columns of all partitions of a catalog with one thread, and do nothing with them.

The least that a tool takes which reads everything once.
"""

import sys
import time
from pathlib import Path


def read_all(catalog: Path) -> float:
    """Read a catalog; return the CPU seconds that it took."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
    from margin_cache.process import keep_pandas_out

    keep_pandas_out()
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    start = time.process_time()
    for file in catalog.rglob("Npix=*.parquet"):
        pq.ParquetFile(file).read(use_threads=False)
    return time.process_time() - start


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
