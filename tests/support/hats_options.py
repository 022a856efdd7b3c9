"""The options that hats writes its files with."""

from typing import Any

import pyarrow as pa
import pytest


def hats_options(schema: pa.Schema, **options: Any) -> dict[str, Any]:
    """Those of hats itself for a schema, on top of which some are given."""
    with pytest.MonkeyPatch.context() as patch:
        # hipscat, imported later in the same process, shall not compile.
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        from hats.io.file_io import get_parquet_write_table_kwargs
    return get_parquet_write_table_kwargs(schema, write_table_kwargs=options)
