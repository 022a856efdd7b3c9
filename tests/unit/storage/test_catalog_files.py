"""A Parquet file is opened, or the error names it and the problem in one line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage.catalog_files import open_parquet, unreadable
from support.changed_catalogs import say_other_codec
from support.encrypted_files import write_encrypted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3]}), path)
    return path


def test_a_file_is_opened_by_its_path_or_as_it_is_open(path: Path) -> None:
    assert open_parquet(path).read()["x"].to_pylist() == [1, 2, 3]
    with pa.OSFile(str(path)) as source:
        # The name may mean another file by now.
        path.write_bytes(path.read_bytes())
        path.unlink()
        assert open_parquet(path, source).read()["x"].to_pylist() == [1, 2, 3]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError) as caught:
        open_parquet(tmp_path / "none.parquet")
    assert str(caught.value) == f"{tmp_path / 'none.parquet'}: no such file."


@pytest.mark.parametrize("size", [0, 4, 11, -1])
def test_a_file_that_is_not_whole_is_named_in_one_line(size: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(MarginCacheError) as caught:
        open_parquet(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read (") and message.endswith(
        "Copy the file again."
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("first\nsecond"), "first"), (OSError(), "OSError"), (pa.ArrowInvalid(" x "), "x")],
)
def test_the_reason_is_the_first_line_or_the_kind_of_error(error: Exception, reason: str) -> None:
    said = unreadable(Path("a.parquet"), error)
    assert isinstance(said, MarginCacheError)
    assert str(said) == f"a.parquet: cannot be read ({reason}). Copy the file again."


UNUSABLE = "a column is encrypted or has an unknown codec, or the footer is damaged"
TABLE = pa.table({"a": np.arange(1000), "b": ["x"] * 1000})


def test_a_file_with_encrypted_columns_is_refused(path: Path) -> None:
    write_encrypted(TABLE, path, "b", plain_footer=True)
    with pytest.raises(MarginCacheError, match=f"{path}: {UNUSABLE}"):
        open_parquet(path)
    write_encrypted(TABLE, path, "b", plain_footer=False)
    with pytest.raises(MarginCacheError, match=f"{path}: cannot be read .*encrypted"):
        open_parquet(path)


@pytest.mark.parametrize("codec", [8, 63])
def test_a_file_of_an_unknown_codec_is_refused(codec: int, path: Path) -> None:
    pq.write_table(TABLE, path, compression="lz4")
    say_other_codec(path, codec)
    with pytest.raises(MarginCacheError, match=f"{path}: {UNUSABLE}"):
        open_parquet(path)


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_footers_of_other_codecs_need_no_second_process(
    codec: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("subprocess.run")
    pq.write_table(TABLE, path, compression=codec, write_page_index=True)
    assert open_parquet(path).metadata.num_rows == 1000
