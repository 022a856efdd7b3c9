"""Make a margin cache with hats-import, to compare with or to time.

To be run by a Python that has the packages of hats-import.txt:

    python run_hats_import.py --input CATALOG --output DIRECTORY --name MARGIN --threshold 10
"""

import argparse
import tempfile
from pathlib import Path

from dask.distributed import Client
from hats_import.margin_cache.margin_cache import generate_margin_cache
from hats_import.margin_cache.margin_cache_arguments import MarginCacheArguments


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a margin cache with hats-import.")
    parser.add_argument("--input", type=Path, required=True, help="directory of the catalog")
    parser.add_argument("--output", type=Path, required=True, help="where to make the margin")
    parser.add_argument("--name", required=True, help="the margin's name, also its directory's")
    parser.add_argument("--threshold", type=float, required=True, help="in arcsec")
    parser.add_argument("--workers", type=int, default=1, help="processes of dask")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output) as temporary:
        margin = MarginCacheArguments(
            input_catalog_path=str(arguments.input),
            output_path=str(arguments.output),
            output_artifact_name=arguments.name,
            margin_threshold=arguments.threshold,
            tmp_dir=temporary,
            dask_tmp=temporary,
            resume=False,
            progress_bar=False,
            create_metadata=True,
            create_partition_info_png=False,
        )
        with Client(
            n_workers=arguments.workers,
            threads_per_worker=1,
            local_directory=temporary,
            dashboard_address=None,
        ) as client:
            generate_margin_cache(margin, client)


# dask starts its workers by importing this file again.
if __name__ == "__main__":
    main()
