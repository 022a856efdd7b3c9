"""Write the report of a finished margin: a page, and its figures as PNG and SVG."""

import argparse
from pathlib import Path

from margin_cache.margin.model import load_margin
from margin_cache.process import run
from margin_cache.report.write import write_report


def main() -> str:
    """Write the report of the margin that the command line names; return what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--margin", type=Path, required=True, help="margin.json of the margin")
    margin = load_margin(parser.parse_args().margin)
    figures = write_report(margin)
    return f"{margin.files.report_page}: {len(figures)} figures"


if __name__ == "__main__":
    run(main)
