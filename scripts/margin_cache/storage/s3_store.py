"""S3 and compatible stores, through s3fs."""

import base64
import errno
import hashlib
from contextlib import suppress
from typing import Any

from margin_cache.storage.old_object_store import (
    RANGE_IGNORED,
    ObjectChanged,
    ObjectState,
    ObjectStore,
    PreconditionFailed,
    TransientError,
    check_content_range,
)

_PART_BYTES = 64 << 20
"""Larger objects are written by multipart uploads with parts of this size."""


class S3Store(ObjectStore):
    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        # Without retries of its own: StoreClient makes them, and botocore's would take minutes.
        config = {"retries": {"total_max_attempts": 1}, **options.get("config_kwargs", {})}
        self._system = system(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            **{**options, "config_kwargs": config},
        )
        self._system.retries = 1

    async def list_objects(self, url: str) -> dict[str, ObjectState] | None:
        path = self._system._strip_protocol(url)
        try:
            objects = await self._system._find(path, detail=True)
        except PermissionError:
            return None  # many public buckets do not allow listing
        return {
            name[len(path) + 1 :]: ObjectState(int(info["size"]), str(info["ETag"]))
            for name, info in objects.items()
            if name.startswith(f"{path}/")
        }

    async def state(self, url: str) -> ObjectState:
        response = await self._call("head_object", **self._location(url))
        return ObjectState(int(response["ContentLength"]), str(response["ETag"]))

    async def read(self, url: str, start: int, end: int) -> tuple[bytes, ObjectState]:
        try:
            response = await self._call(
                "get_object", **self._location(url), Range=f"bytes={start}-{end - 1}"
            )
        except OSError as error:
            if error.errno == errno.EINVAL:  # the range is beyond the end
                raise ObjectChanged(url) from None
            raise
        if "ContentRange" in response:
            size = check_content_range(response["ContentRange"], start, end)
        else:
            size = int(response["ContentLength"])
            if (start, end) != (0, size):
                response["Body"].close()  # the body is not read
                raise TransientError(RANGE_IGNORED)
        async with response["Body"] as body:
            return await body.read(), ObjectState(size, str(response["ETag"]))

    async def write(self, url: str, content: bytes, expected_etag: str | None) -> ObjectState:
        location = self._location(url)
        if expected_etag is None and len(content) > _PART_BYTES:
            return await self._write_in_parts(location, content)
        condition = {} if expected_etag is None else {"IfMatch": expected_etag}
        if expected_etag == "":
            condition = {"IfNoneMatch": "*"}
        try:
            response = await self._call(
                "put_object", **location, Body=content, ContentMD5=_md5(content), **condition
            )
        except OSError as error:
            if condition and _is_precondition_failed(error):
                raise PreconditionFailed(url) from None
            raise
        return ObjectState(len(content), str(response["ETag"]))

    async def _write_in_parts(self, location: dict[str, str], content: bytes) -> ObjectState:
        upload = await self._call("create_multipart_upload", **location)
        location = {**location, "UploadId": upload["UploadId"]}
        parts = []
        try:
            for number, start in enumerate(range(0, len(content), _PART_BYTES), start=1):
                part = content[start : start + _PART_BYTES]
                response = await self._call(
                    "upload_part", PartNumber=number, Body=part, ContentMD5=_md5(part), **location
                )
                parts.append({"PartNumber": number, "ETag": response["ETag"]})
            response = await self._call(
                "complete_multipart_upload", MultipartUpload={"Parts": parts}, **location
            )
        except BaseException:
            with suppress(Exception):
                await self._call("abort_multipart_upload", **location)
            raise
        return ObjectState(len(content), str(response["ETag"]))

    async def remove(self, url: str) -> None:
        await self._call("delete_object", **self._location(url))

    async def abort_uploads(self, url: str) -> None:
        location = self._location(url)
        bucket, prefix = location["Bucket"], f"{location['Key']}/"
        try:
            # At most 1,000; the next run finds the others.
            page = await self._call("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        except (PermissionError, NotImplementedError):
            return
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return
            raise
        for upload in page.get("Uploads", []):
            key = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            with suppress(FileNotFoundError):
                await self._call("abort_multipart_upload", Bucket=bucket, **key)

    async def close(self) -> None:
        if self._system._s3 is not None:
            await self._system._s3.close()

    def _location(self, url: str) -> dict[str, str]:
        bucket, key, _ = self._system.split_path(url)
        return {"Bucket": bucket, "Key": key}

    async def _call(self, method: str, **arguments: Any) -> Any:
        return await self._system._call_s3(method, **arguments)


def _md5(content: bytes) -> str:
    """Return the checksum by which the store verifies an upload."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _is_precondition_failed(error: OSError) -> bool:
    if isinstance(error, FileNotFoundError):
        return True
    text = f"{error} {error.__cause__}"
    return any(word in text for word in ("PreconditionFailed", "pre-conditions", "412"))
