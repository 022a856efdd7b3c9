"""Parquet files with encrypted columns."""

import base64
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption


class _Keys(encryption.KmsClient):
    """A keeper of keys that keeps nothing secret."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(table: pa.Table, path: Path, column: str, plain_footer: bool) -> None:
    """Write a file of which a column is encrypted, and the footer as well unless it is plain."""
    properties = encryption.CryptoFactory(lambda config: _Keys()).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(
            footer_key="footer", column_keys={"column": [column]}, plaintext_footer=plain_footer
        ),
    )
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
