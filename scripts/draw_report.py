"""Write the report of a finished margin: a page, and its figures as PNG and SVG."""

import argparse
import sys
from pathlib import Path

from margin_cache.process import run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.margin.model import load_margin
    from margin_cache.report.page import write_report

    margin = load_margin(arguments.margin)
    write_report(margin)
    print(margin.files.report_page, file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--margin", type=Path, required=True, help="margin.json of the margin")
    run(main, parser, is_lean=False)
