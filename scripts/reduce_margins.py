"""Write the margins of the destination pixels of a reduce job, its receipt and its footers."""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(plan: Path, job: str, staging_dir: Path, shards_of: Path) -> None:
    from margin_cache.margin.paths import PlanFiles
    from margin_cache.margin.reduce import reduce_margins
    from margin_cache.planning.model import describe_job, load_plan

    margin_plan = load_plan(plan)
    print(f"reducing {describe_job(job)}", file=sys.stderr)
    number, files = margin_plan.reduce_job_of(job), PlanFiles(plan.parent)
    written = reduce_margins(margin_plan, number, files, staging_dir, PlanFiles(shards_of))
    rows = sum(rows for rows, _, _ in written.values())
    print(f"wrote {rows} rows to {len(written)} files", file=sys.stderr)


if __name__ == "__main__":
    run(main, required(plan=Path, job=str, staging_dir=Path, shards_of=Path))
