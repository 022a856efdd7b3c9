"""Write the report of a finished margin: a page, and its figures."""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(margin: Path) -> None:
    from margin_cache.margin.model import load_margin
    from margin_cache.report.page import write_report

    loaded = load_margin(margin)
    write_report(loaded)
    print(loaded.files.report_page, file=sys.stderr)


if __name__ == "__main__":
    run(main, required(margin=Path), is_lean=False)
