"""What is in shards."""

from pathlib import Path

import pyarrow as pa
from margin_cache.catalog.columns import shard_schema
from margin_cache.margin.model import Margin
from margin_cache.margin.shard import read_rows


def rows_in_shard(margin: Margin, shard: Path) -> pa.Table:
    """Return all rows of a shard of a margin."""
    schema = shard_schema(margin.plan.schema)
    return pa.Table.from_batches(read_rows(shard, schema, 0, 1 << 32), schema)
