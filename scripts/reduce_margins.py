"""Write the margins of the destination pixels of a reduce job, its receipt and its footers.

The only reduce job of a margin finishes it too.
"""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(margin: Path, job: str) -> None:
    from margin_cache.margin.model import load_margin
    from margin_cache.margin.reduce import reduce_margins
    from margin_cache.planning.model import describe_job

    made = load_margin(margin)
    print(f"reducing {describe_job(job)}", file=sys.stderr)
    number, files = made.plan.reduce_job_of(job), made.files
    written = reduce_margins(made.plan, number, files, files.staging_dir, made.shard_files)
    rows = sum(rows for rows, _, _ in written.values())
    print(f"wrote {rows} rows to {len(written)} files", file=sys.stderr)
    if made.is_finished_by_reducing:
        from margin_cache.margin.finish import describe_made, finish_margin

        print(describe_made(finish_margin(made)), file=sys.stderr)


if __name__ == "__main__":
    run(main, required(margin=Path, job=str))
