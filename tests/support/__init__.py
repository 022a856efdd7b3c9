"""What several test modules need, and benchmarks: skies, catalogs, the oracle, runs."""
