"""Runs of the workflow: all that knows Snakemake.

``session`` has the margins of a run and answers the rules: which files, which resources. ``audits``
and ``reports`` do the same for these targets. ``handlers`` has what precedes the first job and
follows the last one, ``events`` follows the jobs by Snakemake's log records, ``slurm`` looks for
jobs that can never start, and ``compat`` has what Snakemake does not document.
"""

from margin_cache.run.handlers import on_error, on_start, on_success

__all__ = ["on_error", "on_start", "on_success"]
