"""A receipt is read as it was written, or is as good as none."""

import json
from pathlib import Path
from typing import Any

import pytest
from margin_cache.margin.receipts import Receipt, read_receipt

FOOTERS = {"job": "plan/receipt", "footers": 7, "footers_digest": "4567"}
FILES = {"Norder=0/Dir=0/Npix=1.parquet": [3, 1000, "0123"]}


def output_of(tmp_path: Path) -> Path:
    """Where the receipt of a plan's job is."""
    directory = tmp_path / "plan" / "receipts"
    directory.mkdir(parents=True)
    return directory / "receipt.json"


def test_a_receipt_is_read(tmp_path: Path) -> None:
    path = output_of(tmp_path)
    path.write_text(json.dumps({**FOOTERS, "files": FILES}))
    files = {name: tuple(values) for name, values in FILES.items()}
    assert read_receipt(path) == Receipt(7, "4567", files, {})
    marks = dict.fromkeys(FILES, '"89ab"')
    path.write_text(json.dumps({**FOOTERS, "files": FILES, "marks": marks}))
    assert read_receipt(path) == Receipt(7, "4567", files, marks)


@pytest.mark.parametrize(
    "content",
    [
        *({}, [], None, 3, FOOTERS, {"files": FILES}, {"footers": 7, "files": FILES}),
        {**FOOTERS, "job": "plan/other", "files": FILES},
        {**FOOTERS, "job": "other/receipt", "files": FILES},
        *({**FOOTERS, "files": files} for files in ([], None, {"a": 3}, {"a": [1, 2]})),
        {**FOOTERS, "footers": [], "files": FILES},
        {**FOOTERS, "files": FILES, "marks": []},
        {**FOOTERS, "files": {"a": [{}, 1, "x"]}},
    ],
)
def test_one_of_another_shape_is_none(content: Any, tmp_path: Path) -> None:
    path = output_of(tmp_path)
    assert read_receipt(path) is None
    path.write_text(json.dumps(content))
    assert read_receipt(path) is None
