"""Write the metadata of a margin and move it to its output directory."""

import argparse
from pathlib import Path

from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import load_margin
from margin_cache.process import run


def main() -> str:
    """Finish the margin that the command line names; return what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--margin", type=Path, required=True, help="margin.json of the margin")
    summary = finish_margin(load_margin(parser.parse_args().margin))
    return f"{summary['output_dir']}: {summary['rows']} rows in {summary['files']} files"


if __name__ == "__main__":
    run(main)
