"""Has Snakemake look at its SLURM jobs each second; Python loads this where it starts.

The plugin itself looks 11 seconds after its first look, and then 21, which tests would wait for.
"""

import sys

if any(word.endswith("snakemake") for word in sys.orig_argv[:3]):
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(
        lambda executor: 1.0, lambda executor, seconds: None
    )
