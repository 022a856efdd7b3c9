"""Write one of the skies that margins are tested and timed on as a HiPSCat catalog.

python benchmarks/skies.py survey OUT     # 2,000,000 rows, 31 columns, orders 2 and 3
python benchmarks/skies.py border OUT     # rows that hug borders, corners and poles
"""

import argparse
import time
from pathlib import Path

import library  # noqa: F401
from support.sky_catalogs import (
    BORDER_SEED,
    SURVEY_COLUMNS,
    SURVEY_ROWS,
    SURVEY_SEED,
    border_sky,
    survey_partitions,
    survey_sky,
)
from support.write_hipscat import write_hipscat


def main() -> None:
    """Write one of the skies as the catalog OUT/survey or OUT/border."""
    parser = argparse.ArgumentParser(description="Write a sky as a HiPSCat catalog.")
    parser.add_argument("sky", choices=("survey", "border"))
    parser.add_argument("out", type=Path, help="directory to write the catalog's directory in")
    parser.add_argument("--rows", type=int, default=SURVEY_ROWS, help="of the survey")
    parser.add_argument("--columns", type=int, default=SURVEY_COLUMNS, help="of the survey")
    parser.add_argument("--seed", type=int, help="of the random numbers")
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.sky == "survey":
        seed = SURVEY_SEED if arguments.seed is None else arguments.seed
        table = survey_sky(arguments.rows, arguments.columns, seed)
        partitions = survey_partitions(table)
    else:
        seed = BORDER_SEED if arguments.seed is None else arguments.seed
        table, partitions = border_sky(seed)
    write_hipscat(arguments.out, arguments.sky, table, partitions)
    orders = partitions[:, 0]
    print(
        f"{arguments.sky}: {table.num_rows} rows, {len(partitions)} partitions of orders "
        f"{orders.min()} to {orders.max()}, {time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    main()
