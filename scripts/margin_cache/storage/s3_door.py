"""The way to S3 and what speaks its language, by s3fs."""

import base64
import errno
import hashlib
from contextlib import suppress
from typing import Any

from margin_cache.storage.door import (
    ObjectChanged,
    PreconditionFailed,
    TransientError,
    content_range,
)
from margin_cache.storage.object_state import ObjectState

_PART_BYTES = 64 << 20
"""Larger objects are written in parts of this size."""


class S3Door:
    """S3 and its like, by s3fs: one listing, and parts with the state that they are of."""

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self._system = system(
            asynchronous=True, skip_instance_cache=True, use_listings_cache=False, **options
        )
        self._system.retries = 1

    async def listing(self, url: str) -> dict[str, ObjectState] | None:
        """Return the objects below a URL by their paths there; None if that cannot be had."""
        path = self._system._strip_protocol(url)
        try:
            found = await self._system._find(path, detail=True)
        except PermissionError:
            return None  # many public buckets let nobody list
        return {
            name[len(path) + 1 :]: ObjectState(int(each["size"]), str(each["ETag"]))
            for name, each in found.items()
            if name.startswith(f"{path}/")
        }

    async def state(self, url: str) -> ObjectState:
        """Return the state of an object, or raise FileNotFoundError."""
        bucket, key, _ = self._system.split_path(url)
        found = await self._system._call_s3("head_object", Bucket=bucket, Key=key)
        return ObjectState(int(found["ContentLength"]), str(found["ETag"]))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        """Return the bytes from one to before another, and the state of the object they are of."""
        bucket, key, _ = self._system.split_path(url)
        try:
            found = await self._system._call_s3(
                "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}"
            )
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond its end
                raise ObjectChanged(url) from None
            raise
        size = int(found["ContentLength"])
        if "ContentRange" in found:
            first, last, size = content_range(found["ContentRange"])
            if (first, last) != (start, end - 1) and size >= end:
                raise TransientError("another part than the one asked for came")
        elif (start, end) != (0, size):
            found["Body"].close()
            raise TransientError(
                "the whole came where a part was asked for: its server ignores Range"
            )
        async with found["Body"] as body:
            return await body.read(), ObjectState(size, str(found["ETag"]))

    async def write(self, url: str, content: bytes, expected: str | None) -> ObjectState:
        """Write an object as a whole, or not at all; see ``Door.write``."""
        bucket, key, _ = self._system.split_path(url)
        if expected is None and len(content) > _PART_BYTES:
            return await self._write_in_parts(bucket, key, content)
        condition = {} if expected is None else {"IfMatch": expected}
        if expected == "":
            condition = {"IfNoneMatch": "*"}
        try:
            found = await self._system._call_s3(
                "put_object",
                Bucket=bucket,
                Key=key,
                Body=content,
                ContentMD5=_md5(content),
                **condition,
            )
        except OSError as error:
            if condition and _is_otherwise_there(error):
                raise PreconditionFailed(url) from None
            raise
        return ObjectState(len(content), str(found["ETag"]))

    async def _write_in_parts(self, bucket: str, key: str, content: bytes) -> ObjectState:
        place = {"Bucket": bucket, "Key": key}
        begun = await self._system._call_s3("create_multipart_upload", **place)
        place["UploadId"] = begun["UploadId"]
        parts = []
        try:
            for number, start in enumerate(range(0, len(content), _PART_BYTES), start=1):
                part = content[start : start + _PART_BYTES]
                found = await self._system._call_s3(
                    "upload_part", PartNumber=number, Body=part, ContentMD5=_md5(part), **place
                )
                parts.append({"PartNumber": number, "ETag": found["ETag"]})
            found = await self._system._call_s3(
                "complete_multipart_upload", MultipartUpload={"Parts": parts}, **place
            )
        except BaseException:
            with suppress(Exception):
                await self._system._call_s3("abort_multipart_upload", **place)
            raise
        return ObjectState(len(content), str(found["ETag"]))

    async def remove(self, url: str) -> None:
        """Remove an object, if it is there."""
        bucket, key, _ = self._system.split_path(url)
        await self._system._call_s3("delete_object", Bucket=bucket, Key=key)

    async def abort_uploads(self, url: str) -> None:
        """Remove what killed processes have left below a URL of objects written in parts."""
        bucket, key, _ = self._system.split_path(url)
        found: dict[str, Any] = {"IsTruncated": True}
        while found.get("IsTruncated"):
            # A page has a thousand of them.
            behind = {
                name: found[f"Next{name}"]
                for name in ("KeyMarker", "UploadIdMarker")
                if found.get(f"Next{name}")
            }
            try:
                found = await self._system._call_s3(
                    "list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/", **behind
                )
            except (PermissionError, NotImplementedError):
                return
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    return
                raise
            for each in found.get("Uploads", []):
                place = {"Bucket": bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
                with suppress(FileNotFoundError):
                    await self._system._call_s3("abort_multipart_upload", **place)

    async def close(self) -> None:
        """Close all connections."""
        if self._system._s3 is not None:
            await self._system._s3.close()


def _md5(content: bytes) -> str:
    """Return the checksum by which a store sees whether all has come."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _is_otherwise_there(error: OSError) -> bool:
    """Tell whether a write failed since what was there was not what was expected."""
    if isinstance(error, FileNotFoundError):
        return True
    words = f"{error} {error.__cause__}"
    return any(each in words for each in ("PreconditionFailed", "pre-conditions", "412"))
