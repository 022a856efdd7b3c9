"""Lets the workflow's library, and what tests and benchmarks share, be imported after this."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
