"""What PyArrow must not be asked about is found in the footer, and nothing else is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.storage import parquet_footer
from margin_cache.storage.parquet_footer import problem_of_columns, read_page_header
from support.changed_catalogs import say_other_codec
from support.encrypted_files import write_encrypted
from support.typed_tables import typed_table

TABLE = pa.table({"a": np.arange(1000), "b": ["x"] * 1000})


def problem_of(path: Path) -> str:
    source = pa.OSFile(str(path))
    return problem_of_columns(source, pq.ParquetFile(source))


def test_an_encrypted_column_is_named(tmp_path: Path) -> None:
    write_encrypted(TABLE, tmp_path / "file", "b", plain_footer=True)
    assert problem_of(tmp_path / "file") == "the column b is encrypted, which is not read here"


@pytest.mark.parametrize("codec", [8, 9, 63])
def test_an_unknown_codec_is_named(codec: int, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "file", compression="lz4")
    say_other_codec(tmp_path / "file", codec)
    said = f"the column a is compressed with an unknown codec, number {codec}"
    assert problem_of(tmp_path / "file") == said


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_nothing_is_said_of_other_files(codec: str, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "file", compression=codec)
    assert problem_of(tmp_path / "file") == ""


def test_footers_with_all_kinds_of_fields_are_read(
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
    found = parquet_footer._Reader(footer[-8 - length : -8]).structure()
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
def test_the_header_of_a_page_says_its_version_and_whether_it_has_a_checksum(
    version: str, checksum: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    pq.write_table(TABLE, path, data_page_version=version, write_page_checksum=checksum)
    offset = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    assert read_page_header(path, offset) == (version == "2.0", checksum)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PAR1"])
def test_what_is_no_header_of_a_page_is_taken_for_the_usual_one(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_page_header(tmp_path / "file", 0) == (False, False)
