"""These tests make an environment for each version, so they run where versions are named."""

import os

collect_ignore = [] if os.environ.get("SNAKEMAKE_VERSIONS") else ["test_versions.py"]
