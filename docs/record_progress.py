"""Record the terminal output of a command as a file for asciinema.

docs/progress.cast is made by `make recording`; `asciinema play docs/progress.cast` shows it.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.terminals import run_in_terminal  # noqa: E402  # needs the path of the line above

ROWS, COLUMNS = 30, 110
VERSION = 2  # of asciinema's format


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cast", type=Path, help="file to write")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command to record")
    arguments = parser.parse_args()
    output = run_in_terminal(arguments.command, os.environ, rows=ROWS, columns=COLUMNS)
    header = {"version": VERSION, "width": COLUMNS, "height": ROWS}
    events = [[round(time, 3), "o", text] for time, text in output.parts]
    lines = [json.dumps(line, ensure_ascii=False) for line in (header, *events)]
    text = "\n".join(lines).replace(f"{ROOT}/", "")
    arguments.cast.write_text(text + "\n", encoding="utf-8")
    sys.exit(output.code)


if __name__ == "__main__":
    main()
