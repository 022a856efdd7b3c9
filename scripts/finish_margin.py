"""Write the metadata of a margin, and put it into its output directory or store."""

import argparse
import sys
from pathlib import Path

from margin_cache.process import run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.margin.finish import finish_margin
    from margin_cache.margin.model import load_margin

    margin = load_margin(arguments.margin)
    done = finish_margin(margin)
    line = f"{done['output_dir']}: {done['rows']} rows in {done['files']} files"
    print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--margin", type=Path, required=True, help="margin.json of the margin")
    run(main, parser)
