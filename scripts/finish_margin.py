"""Write the metadata of a margin, and put it into its output directory or store."""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(margin: Path) -> None:
    from margin_cache.margin.finish import describe_made, finish_margin
    from margin_cache.margin.model import load_margin

    print(describe_made(finish_margin(load_margin(margin))), file=sys.stderr)


if __name__ == "__main__":
    run(main, required(margin=Path))
