"""The place of a margin in a store, and its image on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.output_lock import LOCK_OBJECT, new_output_lock, work_of
from margin_cache.margin.remote_output import RemoteOutput, open_output, use_image
from margin_cache.storage import missing_parts
from margin_cache.storage.object_state import ObjectState, is_object
from margin_cache.storage.parquet_file import open_parquet
from support.object_servers import S3

RUN = {"process": 5, "host": "node", "directory": "/data/lab"}


@pytest.fixture
def margin(in_s3: Callable[..., Margin]) -> Margin:
    return in_s3()


@pytest.fixture
def place(margin: Margin) -> str:
    """The name of the margin's place in the bucket."""
    return margin.files.url.removeprefix("s3://sky/")


def files_below(directory: Path) -> set[str]:
    found = directory.rglob("*")
    return {path.relative_to(directory).as_posix() for path in found if path.is_file()}


def test_an_image_shows_the_objects_there_are(margin: Margin, place: str, s3: S3) -> None:
    rows = "Norder=0/Dir=0/Npix=4.parquet"
    s3.write(f"{place}/{rows}", b"12345")
    s3.write(f"{place}/properties", b"a=b")
    s3.write(f"{place}2/properties", b"a=c")
    image = margin.files.output_dir
    with open_output(margin.files) as output:
        output.refresh()
        assert files_below(image) == {rows, "properties"}
        assert (image / "properties").read_bytes() == b"a=b"
        assert is_object(image / rows, 5, s3.states(place)[rows])
        assert (image / rows).read_bytes() == bytes(5)
        s3.remove(f"{place}/{rows}")
        s3.write(f"{place}/properties", b"a=d")
        output.refresh()
        assert files_below(image) == {"properties"}
        assert (image / "properties").read_bytes() == b"a=d"
        s3.remove(f"{place}/properties")
        output.refresh()
        assert not image.exists()


def test_a_missing_bucket_is_named_in_the_error(s3: S3, tmp_path: Path) -> None:
    options = {**s3.options, "key": "any"}
    with (
        RemoteOutput("s3://nowhere/m", tmp_path / "m", options) as output,
        pytest.raises(MarginCacheError, match=r"s3://nowhere/m.*bucket"),
    ):
        output.refresh()


def test_objects_are_written_with_their_etags_and_removed(
    margin: Margin, place: str, s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with open_output(margin.files) as output:
        marks = output.write({"a/b": tmp_path / "file", "c": tmp_path / "file"})
        assert marks == s3.states(place)
        # The file stands for the object from now on.
        assert is_object(tmp_path / "file", 5, marks["c"])
        output.refresh()
        output.remove(["c", "none"])
    assert set(s3.states(place)) == {"a/b"} == files_below(margin.files.output_dir)


def test_what_a_margin_says_of_itself_is_withdrawn(margin: Margin, place: str, s3: S3) -> None:
    for name in ("properties", "hats.properties", "catalog_info.json", "partition_info.csv"):
        s3.write(f"{place}/{name}", b"a=b")
    with open_output(margin.files) as output:
        output.refresh()
        output.withdraw()
    assert set(s3.states(place)) == {"partition_info.csv"}


def test_a_margin_is_published_with_its_own_word_last(
    margin: Margin, place: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.write(f"{place}/stale", b"x")
    s3.write(f"{place}/{LOCK_OBJECT}", b"{}")
    s3.write(f"{place}/dataset/rows", b"rows")
    made = tmp_path / "made"
    names = ("dataset/rows", "partition_info.csv", "provenance_info.json", "properties")
    for name in (*names, "hats.properties"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"new")
    order: list[str] = []
    write = RemoteOutput.write

    def noted(self: RemoteOutput, files: Any) -> Any:
        order.extend(files)
        return write(self, files)

    monkeypatch.setattr(RemoteOutput, "write", noted)
    with open_output(margin.files) as output:
        output.refresh()
        output.publish(made, {"dataset/rows"})
    assert order == ["partition_info.csv", "provenance_info.json", "properties", "hats.properties"]
    assert set(s3.states(place)) == {*names, "hats.properties", LOCK_OBJECT}
    assert s3.read(f"{place}/dataset/rows") == b"rows"


def test_a_claim_holds_for_the_runs_of_one_directory(margin: Margin, place: str, s3: S3) -> None:
    claim = new_output_lock(margin, RUN)
    with open_output(margin.files) as output:
        output.claim(claim)
        output.claim({**claim, "process": 6})
        with pytest.raises(MarginCacheError, match=r"is being made by another run .process 6 on"):
            output.claim({**claim, "owner": "another"})
        output.check_claim(work_of(margin))
        with pytest.raises(MarginCacheError, match="is not being made by this run any more"):
            output.check_claim({**work_of(margin), "state": "another"})
        output.release("another")
        output.check_claim(work_of(margin))
        output.release(claim["owner"])
        with pytest.raises(MarginCacheError, match="is not being made by this run any more"):
            output.check_claim(work_of(margin))
    assert s3.states(place) == {}


def test_a_claim_that_comes_between_look_and_write_holds(
    margin: Margin, place: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = RemoteOutput._state

    def late(self: RemoteOutput, path: str) -> Any:
        found = look(self, path)
        s3.write(f"{place}/{LOCK_OBJECT}", b'{"owner": "another"}')
        return found

    with open_output(margin.files) as output, monkeypatch.context() as patch:
        patch.setattr(RemoteOutput, "_state", late)
        with pytest.raises(MarginCacheError, match="is being made by another run"):
            output.claim(new_output_lock(margin, RUN))
    assert s3.read(f"{place}/{LOCK_OBJECT}") == b'{"owner": "another"}'


PROPERTIES = b"obs_collection=c\nhats_primary_table_url=primary\nhats_estsize=1\n"


def collection_of(margin: Margin, place: str, s3: S3) -> tuple[Any, str]:
    """The catalog of a margin, as if it was the primary of the collection at its output_path."""
    around = place.rpartition("/")[0]
    s3.write(f"{around}/collection.properties", PROPERTIES)
    s3.write(f"{around}/primary/rows", bytes(5000))
    info = replace(margin.plan.parameters.catalog, format="hats", url=f"s3://sky/{around}/primary")
    return info, f"{around}/collection.properties"


def test_a_margin_is_listed_in_the_collection_of_its_primary_alone(
    margin: Margin, place: str, s3: S3
) -> None:
    info, key = collection_of(margin, place, s3)
    s3.write(f"{place}/rows", bytes(3000))
    with open_output(margin.files) as output:
        output.refresh()
        output.register(replace(info, url="s3://sky/elsewhere/primary"))
        assert s3.read(key) == PROPERTIES
        output.register(info)
    lines = s3.read(key).decode().splitlines()
    name = margin.name
    assert lines[2:] == ["hats_estsize=7", f"all_margins={name}", f"default_margin={name}"]


def test_what_others_write_into_a_collection_meanwhile_stays(
    margin: Margin, place: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, key = collection_of(margin, place, s3)
    show = RemoteOutput.show_collection
    written: list[int] = []

    def late(self: RemoteOutput, info: Any) -> Any:
        mark = show(self, info)
        if len(written) < 3:
            written.append(1)
            s3.write(key, PROPERTIES + b"all_margins=other%d\n" % len(written))
        return mark

    monkeypatch.setattr(RemoteOutput, "show_collection", late)
    with open_output(margin.files) as output:
        output.register(info)
    assert f"all_margins=other3 {margin.name}\n" in s3.read(key).decode()


def test_without_a_collection_nothing_is_listed(margin: Margin, place: str, s3: S3) -> None:
    with open_output(margin.files) as output:
        output.register(margin.plan.parameters.catalog)
    assert s3.states(place.rpartition("/")[0]) == {}


def test_footers_of_a_margin_are_fetched_into_its_image(
    margin: Margin, place: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_parts, "_sources", [])
    pq.write_table(pa.table({"x": list(range(50_000))}), tmp_path / "rows")
    content = (tmp_path / "rows").read_bytes()
    name = "dataset/Norder=0/Dir=0/Npix=4.parquet"
    s3.write(f"{place}/{name}", content)
    with open_output(margin.files) as output:
        output.refresh()
    use_image(margin.files)
    file = margin.files.output_dir / name
    assert open_parquet(file).metadata.num_rows == 50_000
    assert is_object(file, len(content), s3.states(place)[name])
    assert 512 * file.stat().st_blocks < len(content) / 2


def test_names_of_objects_lead_nowhere_else(margin: Margin, place: str, s3: S3) -> None:
    for name in ("../outside", "/etc/outside", "a//b", "directory/", ""):
        s3.write(f"{place}/{name}", b"x")
    s3.write(f"{place}/inside", b"x")
    with open_output(margin.files) as output:
        output.refresh()
        assert files_below(margin.files.output_dir.parent) == {f"{margin.name}/inside"}
        with pytest.raises(MarginCacheError, match=r"names the file \.\./outside, which"):
            output.mirror.place({"../outside": ObjectState(1, "a")})
