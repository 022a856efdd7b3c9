"""A Parquet file is opened, or the error names it and the problem in one line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage import parquet_files
from margin_cache.storage.parquet_files import (
    _unreadable_column,
    open_parquet,
    read_page_header,
    unreadable,
)
from support.changed_catalogs import say_other_codec
from support.encrypted_files import write_encrypted
from support.typed_tables import typed_table


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


@pytest.mark.parametrize("plain_footer", [True, False])
def test_a_file_with_encrypted_columns_is_refused(plain_footer: bool, path: Path) -> None:
    write_encrypted(pa.table({"x": [1, 2, 3]}), path, "x", plain_footer)
    with pytest.raises(MarginCacheError, match=f"{path}: .*is encrypted, which is not supported"):
        open_parquet(path)


def test_a_file_of_an_unknown_codec_is_refused(path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3]}), path, compression="lz4")
    say_other_codec(path, 9)
    with pytest.raises(MarginCacheError, match="column x is compressed with the unknown codec 9"):
        open_parquet(path)


TABLE = pa.table({"a": np.arange(1000), "b": ["x"] * 1000})


def problem_of(path: Path) -> str:
    source = pa.OSFile(str(path))
    return _unreadable_column(source, pq.ParquetFile(source))


def test_an_encrypted_column_is_named(tmp_path: Path) -> None:
    write_encrypted(TABLE, tmp_path / "file", "b", plain_footer=True)
    assert problem_of(tmp_path / "file") == "column b is encrypted, which is not supported"


@pytest.mark.parametrize("codec", [8, 9, 63])
def test_an_unknown_codec_is_named(codec: int, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "file", compression="lz4")
    say_other_codec(tmp_path / "file", codec)
    said = f"column a is compressed with the unknown codec {codec}"
    assert problem_of(tmp_path / "file") == said


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_other_codecs_have_no_problem(codec: str, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "file", compression=codec)
    assert problem_of(tmp_path / "file") == ""


def test_footers_with_all_types_of_fields_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        typed_table(500, 1),
        tmp_path / "file",
        row_group_size=100,
        write_page_index=True,
        sorting_columns=[pq.SortingColumn(0, descending=True)],
    )
    footer = (tmp_path / "file").read_bytes()
    length = int.from_bytes(footer[-8:-4], "little")
    found = parquet_files._ThriftReader(footer[-8 - length : -8]).structure()
    metadata = pq.read_metadata(tmp_path / "file")
    assert found[3] == metadata.num_rows
    for number, group in enumerate(found[4]):
        expected = metadata.row_group(number).to_dict()
        assert group[2] == expected["total_byte_size"] and group[3] == expected["num_rows"]
        for column, wanted in zip(group[1], expected["columns"]):
            assert b".".join(column[3][3]).decode() == wanted["path_in_schema"]
            assert column[3][7] == wanted["total_compressed_size"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("checksum", [False, True])
def test_page_header_has_version_and_checksum(version: str, checksum: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(TABLE, path, data_page_version=version, write_page_checksum=checksum)
    offset = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    assert read_page_header(path, offset) == (version == "2.0", checksum)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PAR1"])
def test_unreadable_page_header_is_the_usual_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_page_header(tmp_path / "file", 0) == (False, False)
