"""Make a sky of the benchmark, with the true rows of its margins.

python benchmarks/benchmark_skies.py survey OUT
"""

import argparse
import time
from pathlib import Path

import library  # noqa: F401
from support.benchmark_skies import SKIES, make_sky


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a sky of the benchmark.")
    parser.add_argument("sky", choices=SKIES)
    parser.add_argument("out", type=Path, help="directory to make the sky's directory in")
    arguments = parser.parse_args()
    start = time.perf_counter()
    make_sky(arguments.sky, arguments.out / arguments.sky)
    print(f"{arguments.sky}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
