"""Objects in S3 are written as a whole, in the place of what is expected there."""

from typing import Any

import pytest
from margin_cache.storage import s3_door
from margin_cache.storage.door import Door, PreconditionFailed
from margin_cache.storage.object_state import ObjectState
from support.doors import CONTENT, asked
from support.object_servers import BUCKET, S3

URL = f"s3://{BUCKET}/doors/object"


@pytest.fixture(autouse=True)
def empty(s3: S3) -> None:
    for path in s3.states("doors"):
        s3.remove(f"doors/{path}")


def written(s3: S3, content: bytes, expected: str | None = None) -> ObjectState:
    return asked(URL, lambda door: door.write(URL, content, expected), s3.options)


def test_an_object_is_written_read_and_removed(s3: S3) -> None:
    state = written(s3, CONTENT)
    assert state.size == len(CONTENT)
    assert asked(URL, lambda door: door.state(URL), s3.options) == state
    assert asked(URL, lambda door: door.read(URL, 5, 9), s3.options) == (CONTENT[5:9], state)
    listing = asked(URL, lambda door: door.listing(f"s3://{BUCKET}/doors"), s3.options)
    assert listing == {"object": state}
    asked(URL, lambda door: door.remove(URL), s3.options)
    with pytest.raises(FileNotFoundError):
        asked(URL, lambda door: door.state(URL), s3.options)


def test_an_object_replaces_the_expected_one_alone(s3: S3) -> None:
    first = written(s3, b"a", "")
    with pytest.raises(PreconditionFailed):
        written(s3, b"b", "")
    with pytest.raises(PreconditionFailed):
        written(s3, b"b", '"0123"')
    assert s3.read("doors/object") == b"a"
    written(s3, b"b", first.mark)
    assert s3.read("doors/object") == b"b"
    s3.remove("doors/object")
    with pytest.raises(PreconditionFailed):
        written(s3, b"c", first.mark)


def test_a_large_object_is_written_in_parts(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_door, "_PART_BYTES", 5 << 20)  # the least that S3 takes
    content = CONTENT * 12_000
    state = written(s3, content)
    assert state.mark.endswith('-3"')
    assert s3.read("doors/object") == content
    assert asked(URL, lambda door: door.state(URL), s3.options) == state


def test_a_write_in_parts_that_fails_leaves_nothing(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_door, "_PART_BYTES", 5 << 20)

    async def write(door: Door) -> Any:
        call = door._system._call_s3  # type: ignore[attr-defined]

        async def failing(method: str, **arguments: Any) -> Any:
            if method == "upload_part" and arguments["PartNumber"] == 2:
                raise ConnectionResetError
            return await call(method, **arguments)

        monkeypatch.setattr(door._system, "_call_s3", failing)  # type: ignore[attr-defined]
        return await door.write(URL, CONTENT * 12_000, None)

    with pytest.raises(ConnectionResetError):
        asked(URL, write, s3.options)
    assert uploads(s3) == [] and s3.states("doors") == {}


def test_uploads_that_killed_processes_have_left_are_aborted_below_a_url_alone(s3: S3) -> None:
    client = s3.client()
    for key in ("doors/margin/a", "doors/margin/b", "doors/margin2/c"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    place = f"s3://{BUCKET}/doors/margin"
    asked(URL, lambda door: door.abort_uploads(place), s3.options)
    assert uploads(s3) == ["doors/margin2/c"]
    asked(URL, lambda door: door.abort_uploads(f"s3://{BUCKET}/doors/margin2"), s3.options)
    assert uploads(s3) == []


def test_uploads_are_aborted_page_by_page(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3.client()
    keys = [f"doors/margin/{number}" for number in range(3)]
    for key in keys:
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    asked_behind = []

    async def abort(door: Door) -> None:
        call = door._system._call_s3  # type: ignore[attr-defined]
        everything = await call("list_multipart_uploads", Bucket=BUCKET, Prefix="doors/margin/")

        async def paged(method: str, **arguments: Any) -> Any:
            if method != "list_multipart_uploads":
                return await call(method, **arguments)
            asked_behind.append(arguments.get("KeyMarker", ""))
            number = len(asked_behind) - 1
            upload = next(each for each in everything["Uploads"] if each["Key"] == keys[number])
            marks = {"NextKeyMarker": upload["Key"], "NextUploadIdMarker": upload["UploadId"]}
            return {"Uploads": [upload], "IsTruncated": number < 2, **marks}

        monkeypatch.setattr(door._system, "_call_s3", paged)  # type: ignore[attr-defined]
        await door.abort_uploads(f"s3://{BUCKET}/doors/margin")

    asked(URL, abort, s3.options)
    assert asked_behind == ["", *keys[:2]]
    assert uploads(s3) == []


def uploads(s3: S3) -> list[str]:
    found = s3.client().list_multipart_uploads(Bucket=BUCKET)
    return [each["Key"] for each in found.get("Uploads", [])]
