"""Objects in S3 are written whole, and on a condition."""

from typing import Any

import pytest
from margin_cache.storage import s3_store
from margin_cache.storage.old_object_store import ObjectState, ObjectStore, PreconditionFailed
from support.object_servers import BUCKET, S3
from support.object_stores import CONTENT, call_store

URL = f"s3://{BUCKET}/stores/object"


@pytest.fixture(autouse=True)
def empty(s3: S3) -> None:
    for path in s3.states("stores"):
        s3.remove(f"stores/{path}")


def written(s3: S3, content: bytes, expected: str | None = None) -> ObjectState:
    return call_store(URL, lambda store: store.write(URL, content, expected), s3.options)


def test_an_object_is_written_read_and_removed(s3: S3) -> None:
    state = written(s3, CONTENT)
    assert state.size == len(CONTENT)
    assert call_store(URL, lambda store: store.state(URL), s3.options) == state
    assert call_store(URL, lambda store: store.read(URL, 5, 9), s3.options) == (CONTENT[5:9], state)
    listing = call_store(URL, lambda store: store.list_objects(f"s3://{BUCKET}/stores"), s3.options)
    assert listing == {"object": state}
    call_store(URL, lambda store: store.remove(URL), s3.options)
    with pytest.raises(FileNotFoundError):
        call_store(URL, lambda store: store.state(URL), s3.options)


def test_only_the_expected_object_is_replaced(s3: S3) -> None:
    first = written(s3, b"a", "")
    with pytest.raises(PreconditionFailed):
        written(s3, b"b", "")
    with pytest.raises(PreconditionFailed):
        written(s3, b"b", '"0123"')
    assert s3.read("stores/object") == b"a"
    written(s3, b"b", first.etag)
    assert s3.read("stores/object") == b"b"
    s3.remove("stores/object")
    with pytest.raises(PreconditionFailed):
        written(s3, b"c", first.etag)


def test_large_object_is_written_in_parts(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "_PART_BYTES", 5 << 20)  # the least that S3 takes
    content = CONTENT * 12_000
    state = written(s3, content)
    assert state.etag.endswith('-3"')
    assert s3.read("stores/object") == content
    assert call_store(URL, lambda store: store.state(URL), s3.options) == state


def test_failed_multipart_upload_leaves_nothing(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "_PART_BYTES", 5 << 20)

    async def write(store: ObjectStore) -> Any:
        call = store._system._call_s3  # type: ignore[attr-defined]

        async def failing(method: str, **arguments: Any) -> Any:
            if method == "upload_part" and arguments["PartNumber"] == 2:
                raise ConnectionResetError
            return await call(method, **arguments)

        monkeypatch.setattr(store._system, "_call_s3", failing)  # type: ignore[attr-defined]
        return await store.write(URL, CONTENT * 12_000, None)

    with pytest.raises(ConnectionResetError):
        call_store(URL, write, s3.options)
    assert uploads(s3) == [] and s3.states("stores") == {}


def test_left_uploads_are_aborted_below_the_url_only(s3: S3) -> None:
    client = s3.client()
    for key in ("stores/margin/a", "stores/margin/b", "stores/margin2/c"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    url = f"s3://{BUCKET}/stores/margin"
    call_store(URL, lambda store: store.abort_uploads(url), s3.options)
    assert uploads(s3) == ["stores/margin2/c"]
    call_store(URL, lambda store: store.abort_uploads(f"s3://{BUCKET}/stores/margin2"), s3.options)
    assert uploads(s3) == []


def uploads(s3: S3) -> list[str]:
    response = s3.client().list_multipart_uploads(Bucket=BUCKET)
    return [upload["Key"] for upload in response.get("Uploads", [])]
