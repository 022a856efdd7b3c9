"""Parts are fetched of files of a source, and of no others."""

from pathlib import Path

import pytest
from margin_cache.storage import missing_parts
from margin_cache.storage.missing_parts import Range, fetch_footer, fetch_parts, use


class Recorder:
    """Notes what it is asked to fetch."""

    root = Path("mirror/sky")

    def __init__(self) -> None:
        self.asked: list[object] = []

    def fetch_footer(self, path: Path) -> None:
        self.asked.append(path.name)

    def fetch(self, path: Path, ranges: list[Range]) -> None:
        self.asked.append((path.name, ranges))


def test_only_files_of_a_source_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_parts, "_sources", [])
    recorder = Recorder()
    fetch_footer(Path("mirror/sky/a"))
    use(recorder)
    for path in ("mirror/sky/b", "mirror/sky2/c", "sky/d"):
        fetch_footer(Path(path))
        fetch_parts(Path(path), [(1, 2)])
    assert recorder.asked == ["b", ("b", [(1, 2)])]
