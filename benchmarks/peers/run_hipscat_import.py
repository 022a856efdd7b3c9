"""Make a margin cache with hipscat-import, to compare with or to time.

To be run by a Python that has the packages of hipscat-import.txt, which is older ones than the
workflow's:

    python run_hipscat_import.py --input CATALOG --output MARGIN --threshold 10 --workers 2
"""

import argparse
import tempfile
from pathlib import Path

from dask.distributed import Client
from hipscat_import.margin_cache.margin_cache import generate_margin_cache
from hipscat_import.margin_cache.margin_cache_arguments import MarginCacheArguments


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a margin cache with hipscat-import.")
    parser.add_argument("--input", type=Path, required=True, help="directory of the catalog")
    parser.add_argument("--output", type=Path, required=True, help="directory of the margin")
    parser.add_argument("--threshold", type=float, required=True, help="in arcsec")
    parser.add_argument("--workers", type=int, default=1, help="processes of dask")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output.parent) as temporary:
        margin = MarginCacheArguments(
            input_catalog_path=str(arguments.input),
            output_path=str(arguments.output.parent),
            output_artifact_name=arguments.output.name,
            margin_threshold=arguments.threshold,
            tmp_dir=temporary,
            dask_tmp=temporary,
            resume=False,
            progress_bar=False,
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
