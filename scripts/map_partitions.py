"""Write the shard of a map job: the rows of its partitions that are in a margin."""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(plan: Path, job: str, shard: Path) -> None:
    import pyarrow as pa
    from margin_cache.margin.map import map_partitions
    from margin_cache.planning.model import describe_job, load_plan

    pa.set_cpu_count(1)  # a job uses one thread
    margin_plan = load_plan(plan)
    print(f"mapping {describe_job(job)}", file=sys.stderr)
    read, written = map_partitions(margin_plan, margin_plan.map_job_of(job), shard)
    print(f"read {read} rows, wrote {written}", file=sys.stderr)


if __name__ == "__main__":
    run(main, required(plan=Path, job=str, shard=Path))
