"""Partitions are listed as they are on disk; errors name the file."""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.catalog import partitions
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.partitions import (
    check_whole,
    ends_digest,
    partition_files,
    read_partitions,
    restrict,
    state_of,
    unchanged_files,
)
from margin_cache.catalog.spec import pixel_path
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from support.catalog_infos import HATS, HIPSCAT, partition_paths, write_partition
from support.unprivileged import raised_without_privileges

TABLE = pa.table({"ra": [1.0], "dec": [2.0]})
# In nested order, which is not that of their orders or numbers; with two directories of pixels.
PIXELS = [
    *(Pixel(1, 0), Pixel(2, 5), Pixel(0, 1), Pixel(7, 2 * 4**7)),
    *(Pixel(6, 2 * 4**6 + 4000), Pixel(0, 11)),
]


@pytest.fixture(params=["hipscat", "hats", "parq", "directories"])
def info(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogInfo:
    """A catalog of PIXELS, with one of the ways to name files."""
    info = {
        "hipscat": HIPSCAT,
        "hats": HATS,
        "parq": replace(HATS, npix_suffix=".parq"),
        "directories": replace(HATS, npix_suffix="/"),
    }[request.param]
    info = replace(info, path=str(tmp_path))
    for order, pixel in PIXELS[::-1]:
        for name in ("b", "a") if info.npix_suffix == "/" else ("",):
            write_partition(info, order, pixel, TABLE, name)
    return info


def file_of(info: CatalogInfo, number: int) -> Path:
    return partition_paths(info, PIXELS[number])[0]


# --- finding --------------------------------------------------------------------------------


def test_partitions_are_found_in_nested_order_with_the_state_of_their_files(
    info: CatalogInfo,
) -> None:
    os.utime(file_of(info, 3), ns=(1, 987_654_321))
    if info.npix_suffix == "/":
        os.utime(file_of(info, 3).with_name("b"), ns=(1, 5))
    found = read_partitions(info)
    assert [partition.pixel for partition in found] == PIXELS
    assert found.times[3] == 987_654_321
    for at, pixel in enumerate(PIXELS):
        files = partition_paths(info, pixel)
        assert found.sizes[at] == sum(file.stat().st_size for file in files)
        assert found[at] == (pixel, state_of(info, partition_files(info, pixel)))
    assert found.parts.any() == (info.npix_suffix == "/")
    assert {values.dtype for values in vars(found).values()} == {np.dtype(np.int64)}


def test_files_of_a_partition_are_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    info = replace(HATS, path=str(tmp_path), npix_suffix="/")
    for name in ("2", "10", ".hidden", "_SUCCESS"):
        write_partition(info, 1, 3, TABLE, name)
    files = partition_paths(info, Pixel(1, 3))
    assert [file.name for file in files] == ["10", "2"]
    assert state_of(info, partition_files(info, Pixel(1, 3))).size == 2 * files[0].stat().st_size


SIDES = (".tmp", ".part", ".parquet.part", ".md5", ".SHA256", ".bak", "~", ".parquet.crc")


def put(path: Path, is_directory: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_directory:
        path.mkdir()
    else:
        path.touch()
    return path


def test_temporary_files_backups_and_checksums_are_ignored(info: CatalogInfo) -> None:
    root = Path(info.path, info.dataset)
    suffix = info.npix_suffix.rstrip("/")
    for side in SIDES:
        put(root / f"Norder=1/Dir=0/Npix=3{suffix}{side}")
        put(root / f"Norder=1/Dir=0{side}")
        put(root / f"Norder=1{side}")
    for name in (f".Npix=3{suffix}", "_SUCCESS", "notes.txt", ".nfs0001"):
        put(root / "Norder=1/Dir=0" / name)
        put(root / "Norder=1" / name)
        put(root / name)
    assert len(read_partitions(info).orders) == len(PIXELS)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("is_directory", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        *("Norder=1/Dir=0/Npix=3.pq", "Norder=1/Dir=0/Npix=3.parquet.1", "Norder=1/Dir=0/Npix=x"),
        *("Norder=1/Dir=0/Npix=3 (1)", "Norder=1/Dir=0/Npix=", "Norder=1/Dir=0/Npix=-3"),
        *("Norder=1/Dir=0/Npix=3\n", "Norder=1/Dir=0/Dir=0", "Norder=1/Dir=0x", "Norder=1/Dir="),
        *("Norder=1/Npix=3", "Norder=1/Norder=1", "Norder=x", "Norder=1.0", "Npix=3", "Dir=0"),
    ],
)
def test_names_that_resemble_partitions_are_refused(
    name: str, is_directory: bool, listed: bool, info: CatalogInfo
) -> None:
    if listed:
        write_list(info, PIXELS)
    path = put(Path(info.path, info.dataset, name), is_directory)
    shown = str(path) if "\n" not in name else repr(str(path))
    with pytest.raises(MarginCacheError, match=re.escape(f"{shown}: may be a partition")):
        read_partitions(info)


def test_partitions_with_another_suffix_are_refused(info: CatalogInfo) -> None:
    for suffix in {"", ".parquet", ".parq"} - {info.npix_suffix.rstrip("/")}:
        path = put(Path(info.path, info.dataset, f"Norder=1/Dir=0/Npix=3{suffix}"), not suffix)
        expected = f"partitions of this catalog are named Npix=N{info.npix_suffix.rstrip('/')}."
        with pytest.raises(
            MarginCacheError, match=re.escape(f"{path}: may be a partition")
        ) as caught:
            read_partitions(info)
        assert expected in str(caught.value)
        path.rename(path.with_name(f"elsewhere{suffix}"))


@pytest.mark.parametrize("change", ["older part", "sizes", "name", "times"])
def test_replacing_a_file_of_a_partition_changes_its_state(change: str, tmp_path: Path) -> None:
    """Even if the sum of the sizes and the newest time stay the same."""
    info = replace(HATS, path=str(tmp_path), npix_suffix="/")
    paths = [write_partition(info, 1, 3, TABLE, name) for name in ("a", "b", "c")]
    for time, path in enumerate(paths, 1):
        os.utime(path, ns=(1, time))
    planned = Partition(Pixel(1, 3), state_of(info, partition_files(info, Pixel(1, 3))))
    assert [Path(info.path, file) for file in unchanged_files(info, planned)] == paths
    if change == "older part":
        os.utime(paths[0], ns=(1, 2))
    elif change == "times":
        os.utime(paths[0], ns=(1, 2))
        os.utime(paths[1], ns=(1, 1))
    elif change == "name":
        paths[1].rename(paths[1].with_name("d"))
    else:
        paths[0].write_bytes(paths[0].read_bytes() + b"x")
        paths[1].write_bytes(paths[1].read_bytes()[:-1])
        for time, path in enumerate(paths, 1):
            os.utime(path, ns=(1, time))
    now = state_of(info, partition_files(info, planned.pixel))
    assert now[:2] == planned.state[:2]
    assert now.parts != planned.state.parts
    with pytest.raises(MarginCacheError, match="Npix=3: was changed after the run began"):
        unchanged_files(info, planned)


def test_a_missing_partition_has_no_state(info: CatalogInfo) -> None:
    with pytest.raises(OSError, match="Npix=7"):
        state_of(info, partition_files(info, Pixel(3, 7)))


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
@pytest.mark.parametrize("place", ["", "dataset", "dataset/Norder=0", "dataset/Norder=0/Dir=0"])
def test_a_directory_without_permission_is_named(place: str, mode: int, tmp_path: Path) -> None:
    info = replace(HATS, path=str(tmp_path / "sky"))
    for order, pixel in PIXELS:
        write_partition(info, order, pixel, TABLE)
    assert raised_without_privileges(lambda: read_partitions(info)) == ""
    closed = tmp_path / "sky" / place
    closed.chmod(mode)
    said = raised_without_privileges(lambda: read_partitions(info))
    closed.chmod(0o755)
    if not place and mode == 0o111:
        assert said == ""  # what is in it is found by name
    else:
        assert said.startswith(f"margin_cache.errors.MarginCacheError: {closed}")
        assert "cannot look for partitions here (Permission denied)" in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("place", [".", "Norder=0", "Norder=1/Dir=0"])
def test_a_failing_file_system_is_an_error(
    place: str, info: CatalogInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, listdir = Path(info.path, info.dataset, place), os.listdir

    def listdir_or_fail(path: str) -> list[str]:
        if Path(path) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", listdir_or_fail)
    with pytest.raises(MarginCacheError, match=re.escape(f"{failing}: ")):
        read_partitions(info)


@pytest.mark.parametrize("what", ["file", "loop", "broken"])
@pytest.mark.parametrize("place", [".", "Norder=0", "Norder=1/Dir=0", "Norder=3/Dir=0/Npix=7"])
def test_a_file_or_broken_link_instead_of_a_directory_is_named(
    place: str, what: str, tmp_path: Path
) -> None:
    info = replace(HATS, path=str(tmp_path), npix_suffix="/")
    for order, pixel in PIXELS:
        write_partition(info, order, pixel, TABLE, "a")
    path = Path(info.path, info.dataset, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    if what == "file":
        path.touch()
    else:
        path.symlink_to(path.name if what == "loop" else "gone")
    with pytest.raises(MarginCacheError, match=re.escape(f"{path}: cannot look for partitions")):
        read_partitions(info)


def test_links_are_followed(info: CatalogInfo, tmp_path: Path) -> None:
    for place in ("Norder=2/Dir=0/Npix=5" + info.npix_suffix.rstrip("/"), "Norder=1"):
        path = Path(info.path, info.dataset, place)
        path.symlink_to(path.rename(tmp_path / f"elsewhere-{path.name}"))
    assert len(read_partitions(info).orders) == len(PIXELS)


@pytest.mark.parametrize("target", ["gone", "loop"])
def test_a_partition_that_is_a_broken_link_is_named(target: str, info: CatalogInfo) -> None:
    file = file_of(info, 2)
    file.unlink()
    file.symlink_to(file.name if target == "loop" else target)
    with pytest.raises(MarginCacheError, match=re.escape(f"{file}: cannot look for partitions")):
        read_partitions(info)


def test_a_partition_list_that_is_a_broken_link_is_named(info: CatalogInfo) -> None:
    Path(info.path, "partition_info.csv").symlink_to("gone")
    with pytest.raises(MarginCacheError, match=r"partition_info\.csv: cannot be read \(No such"):
        read_partitions(info)


def test_a_catalog_without_partitions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match="the catalog has no partitions"):
        read_partitions(replace(HIPSCAT, path=str(tmp_path)))


@pytest.mark.parametrize(
    ("pixel", "with_"),
    [((0, 0), (1, 0)), ((9, 5 << 14), (2, 5)), ((8, (12 << 16) - 1), (0, 11)), ((5, 0), (1, 0))],
)
def test_partitions_that_overlap_are_named(
    pixel: tuple[int, int], with_: tuple[int, int], info: CatalogInfo
) -> None:
    write_partition(info, *pixel, TABLE, "a" if info.npix_suffix == "/" else "")
    with pytest.raises(MarginCacheError, match="overlap") as caught:
        read_partitions(info)
    assert {pixel_path(Pixel(*pixel)), pixel_path(Pixel(*with_))} == set(
        re.findall(r"Norder\S+", str(caught.value))
    )


@pytest.mark.parametrize(("order", "last"), [(0, 11), (3, 767)])
def test_pixels_beyond_the_last_of_an_order_are_named(
    order: int, last: int, tmp_path: Path
) -> None:
    info = replace(HIPSCAT, path=str(tmp_path))
    write_partition(info, order, last, TABLE)
    assert len(read_partitions(info).orders) == 1
    write_partition(info, order, last + 1, TABLE)
    with pytest.raises(
        MarginCacheError, match=rf"Npix={last + 1}\.parquet: this pixel does not exist"
    ):
        read_partitions(info)


@pytest.mark.parametrize("number", ["Norder=3/Dir=0/Npix=" + "9" * 23, "Norder=30/Dir=0/Npix=3"])
def test_impossible_orders_and_numbers_are_named(number: str, info: CatalogInfo) -> None:
    path = Path(info.path, info.dataset, number + info.npix_suffix.rstrip("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(MarginCacheError, match=re.escape(f"{path}: this pixel does not exist")):
        read_partitions(info)


@pytest.mark.parametrize(
    "place", ["Norder=3/Dir=10000/Npix=7", "Norder=03/Dir=0/Npix=7", "Norder=3/Dir=0/Npix=007"]
)
def test_a_partition_in_a_wrong_directory_is_named(place: str, info: CatalogInfo) -> None:
    suffix = info.npix_suffix.rstrip("/")
    path = Path(info.path, info.dataset, place + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    right = info.files.name(info.parquet_path(f"Norder=3/Dir=0/Npix=7{suffix}"))
    said = f"{path}: is in the wrong directory. Move it to {right}, or"
    with pytest.raises(MarginCacheError, match=re.escape(said)):
        read_partitions(info)


def write_list(info: CatalogInfo, pixels: Sequence[tuple[int, int]]) -> None:
    lines = "".join(f"{order},{pixel}\n" for order, pixel in pixels)
    Path(info.path, "partition_info.csv").write_text("Norder,Npix\n" + lines)


def test_a_partition_list_may_have_any_order(info: CatalogInfo) -> None:
    write_list(info, PIXELS[::-1])
    assert len(read_partitions(info).orders) == len(PIXELS)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        ([*PIXELS, (3, 100)], r"lists Norder=3/Dir=0/Npix=100\S*, which is missing \(missing: 1,"),
        (PIXELS[1:], r"does not list Norder=1/Dir=0/Npix=0\S* .*not listed: 1\)"),
    ],
)
def test_a_partition_list_that_differs_from_the_files_is_refused(
    pixels: Sequence[tuple[int, int]], said: str, info: CatalogInfo
) -> None:
    write_list(info, pixels)
    with pytest.raises(MarginCacheError, match=f"partition_info.csv {said}"):
        read_partitions(info)


@pytest.mark.parametrize(
    "content", ["", "Norder,Dir\n1,0\n", "Norder,Npix\n1,x\n", "Norder,Npix\n1\n", "\0"]
)
def test_a_damaged_partition_list_is_refused(content: str, info: CatalogInfo) -> None:
    Path(info.path, "partition_info.csv").write_text(content)
    with pytest.raises(MarginCacheError, match=r"partition_info\.csv"):
        read_partitions(info)


@pytest.mark.parametrize("size", [0, 8, 100])
def test_truncated_files_are_named(size: int, info: CatalogInfo) -> None:
    partitions = read_partitions(info)
    check_whole(info, partitions)
    file = file_of(info, 4)
    file.write_bytes(file.read_bytes()[:size])
    state = "truncated, encrypted or not Parquet" if size else "empty"
    with pytest.raises(MarginCacheError) as caught:
        check_whole(info, partitions)
    assert str(caught.value) == f"{file}: is {state} ({size} bytes). Copy it again."


def test_a_file_deleted_after_listing_is_named(info: CatalogInfo) -> None:
    partitions = read_partitions(info)
    files = partition_paths(info, PIXELS[2])
    for file in files:
        file.unlink()
    with pytest.raises(MarginCacheError, match=str(pixel_path(PIXELS[2], ""))):
        check_whole(info, partitions)


def test_among_many_partitions_a_single_broken_one_is_found(tmp_path: Path) -> None:
    """Also if each thread checks several partitions."""
    info = replace(HIPSCAT, path=str(tmp_path))
    content = write_partition(info, 4, 0, TABLE).read_bytes()
    for pixel in range(600):
        (tmp_path / pixel_path(Pixel(4, pixel))).write_bytes(content)
    partitions = read_partitions(info)
    check_whole(info, partitions)
    for pixel in (0, 299, 599):
        broken = tmp_path / pixel_path(Pixel(4, pixel))
        broken.write_bytes(b"")
        with pytest.raises(MarginCacheError, match=re.escape(f"{broken}: is empty")):
            check_whole(info, partitions)
        broken.write_bytes(content)


# --- some of them ---------------------------------------------------------------------------


def test_selected_partitions_stay_in_nested_order(info: CatalogInfo) -> None:
    partitions = read_partitions(info)
    found = restrict(partitions, ((0, 11), (2, 5)))
    assert found.orders.tolist() == [2, 0] and found.pixels.tolist() == [5, 11]
    assert found.sizes.tolist() == partitions.sizes[[1, 5]].tolist()


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ([(0, 0)], [0, 1]),
        ([(0, 0), (2, 5)], [0, 1]),
        ([(2, 3)], [0]),
        ([(29, 4**29)], [2]),
        ([(1, 8), (1, 11), (1, 47)], [3, 4, 5]),
        ([(5, 2 * 4**5)], [3]),
        ([(0, pixel) for pixel in (0, 1, 2, 11)], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_selected_partitions_overlap_a_pixel(
    info: CatalogInfo, wanted: list[tuple[int, int]], numbers: list[int]
) -> None:
    found = restrict(read_partitions(info), tuple(wanted))
    assert [pixel for pixel, _ in found] == [PIXELS[number] for number in numbers]


@pytest.mark.parametrize("pixel", [(1, 2), (2, 4), (0, 5), (29, 4**28), (7, 2 * 4**7 + 1)])
def test_a_pixel_without_partition_is_refused(info: CatalogInfo, pixel: tuple[int, int]) -> None:
    said = re.escape(
        f"debug_filter_pixel_list: the catalog has no partition that overlaps {[*pixel]}"
    )
    with pytest.raises(MarginCacheError, match=said):
        restrict(read_partitions(info), ((2, 5), pixel))


def test_the_digest_of_ends_has_whole_footers_but_not_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_ENDS_BYTES", 60)
    sizes, digests = set(), []
    for place, value in (("here", 1.0), ("there", 1.0), ("changed", 2.0)):
        info = replace(HATS, path=str(tmp_path / place))
        write_partition(info, 1, 0, TABLE.set_column(0, "ra", pa.array([value])))
        sizes.add(partition_paths(info, Pixel(1, 0))[0].stat().st_size)
        digests.append(ends_digest(info, read_partitions(info)))
    assert len(sizes) == 1
    assert digests[0] == digests[1] != digests[2]
