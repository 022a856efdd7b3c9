"""Write the metadata of a margin, and put it into its output directory or store."""

import sys
from pathlib import Path

from margin_cache.process import required, run


def main(margin: Path) -> None:
    from margin_cache.margin.finish import finish_margin
    from margin_cache.margin.model import load_margin

    done = finish_margin(load_margin(margin))
    line = f"{done['output_dir']}: {done['rows']} rows in {done['files']} files"
    print(line, file=sys.stderr)


if __name__ == "__main__":
    run(main, required(margin=Path))
