"""A margin of hipscat-import differs from ours only in the rows that it gets wrong."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from support import oracle, peers, skies
from support.workflow_runs import run_workflow
from support.write_hipscat import write_hipscat

THRESHOLD = 10.0
# The peer takes milliseconds for each row near a border.
ROWS, NEAR = 40_000, 12_000
KEYS = ["margin_Norder", "margin_Npix", "id"]

Ints = npt.NDArray[np.int64]


def peer_sky() -> tuple[pa.Table, Ints]:
    """Rows, many 0.01 to 100 arcsec from borders; partitions of orders 1 to 3; a hole."""
    rng = np.random.default_rng(11)
    targets = np.array([[3, 0], [3, 255], [2, 31], [3, 300], [3, 700], [2, 100], [1, 40]])
    sphere = skies.refined_partitions(targets)
    sphere = sphere[sphere[:, 0] > 0]
    at = sphere[rng.integers(0, len(sphere), NEAR)]
    u, v = rng.random(NEAR), rng.integers(0, 2, NEAR).astype(np.float64)
    u[: NEAR // 10] = rng.integers(0, 2, NEAR // 10)  # corners
    swap = rng.random(NEAR) < 0.5
    border = skies.pixel_positions(at, np.where(swap, u, v), np.where(swap, v, u))
    distance = np.exp(rng.uniform(np.log(0.01), np.log(100.0), NEAR)) * skies.ARCSEC
    near, uniform = (
        skies.offset_positions(*border, distance, rng),
        skies.uniform_sky(rng, ROWS - NEAR),
    )
    ra, dec = (np.concatenate(parts) for parts in zip(near, uniform, strict=True))
    kept = skies.inside(skies.nested_pixels(ra, dec), sphere)
    ra, dec = ra[kept], dec[kept]
    mag = rng.normal(20.0, 1.0, len(ra)).astype(np.float32)
    return pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec, "mag": mag}), sphere


def margin_tables(margin: Path) -> dict[tuple[int, int], pa.Table]:
    """The rows of each file, by its pixel, in an order that does not depend on their maker."""
    return {
        (int(file.parts[-3].partition("=")[2]), int(file.stem.partition("=")[2])): pq.ParquetFile(
            file
        )
        .read()
        .sort_by([(key, "ascending") for key in KEYS])
        for file in margin.rglob("Npix=*.parquet")
    }


def codes_of(tables: dict[tuple[int, int], pa.Table], destinations: Ints) -> Ints:
    """One integer per pair of row and destination, sorted."""
    output_of = {tuple(pixel): at for at, pixel in enumerate(destinations.tolist())}
    codes = [
        table["id"].to_numpy() * len(destinations) + output_of[pixel]
        for pixel, table in tables.items()
    ]
    return np.sort(np.concatenate(codes))


def test_peer_differs_only_in_the_rows_that_it_gets_wrong(
    tmp_path: Path,
) -> None:
    table, partitions = peer_sky()
    assert set(partitions[:, 0].tolist()) == {1, 2, 3}
    write_hipscat(tmp_path, "sky", table, partitions)
    config = {
        "input_catalog_path": str(tmp_path / "sky"),
        "output_path": "ours",
        "output_artifact_name": "margin",
        "margin_threshold": THRESHOLD,
    }
    run_workflow(tmp_path, config=config, check=True)
    primary, theirs = tmp_path / "sky", tmp_path / "theirs"
    peers.run(
        peers.peer_python("hipscat-import"),
        peers.PEERS / "run_hipscat_import.py",
        *("--input", primary, "--output", theirs / "margin"),
        *("--threshold", THRESHOLD, "--workers", "2"),
    )
    our_margin, their_margin = tmp_path / "ours" / "margin", tmp_path / "theirs" / "margin"
    our_tables, their_tables = margin_tables(our_margin), margin_tables(their_margin)

    # Where they differ in a row, the oracle is with us.
    lon, lat = table["ra"].to_numpy(), table["dec"].to_numpy()
    starts = skies.pixel_spans(partitions)[0]
    home = np.searchsorted(starts, skies.nested_pixels(lon, lat), side="right") - 1
    destinations = np.concatenate([partitions, oracle.negative_pixels(partitions)])
    rows, places, ambiguous = oracle.brute_force_margin(
        lon, lat, home, partitions, destinations, THRESHOLD
    )
    truth = np.sort(rows * len(destinations) + places)
    ours, theirs = codes_of(our_tables, destinations), codes_of(their_tables, destinations)
    assert len(np.unique(ours)) == len(ours)
    missing, extra = np.setdiff1d(truth, theirs), np.setdiff1d(theirs, truth)
    print(
        f"truth {len(truth)}, ours {len(ours)}, theirs {len(theirs)}, of which {len(missing)} are "
        f"missing and {len(extra)} extra; {len(ambiguous)} ambiguous"
    )
    assert len(ambiguous) == 0  # of this sky, so that nothing has to be excluded
    np.testing.assert_array_equal(ours, truth)
    # It misses many rows: hipscat pairs the samples of a boundary with the wrong distances
    # between them, which makes impossible triangles, and takes the NaN for "far away".
    assert len(np.intersect1d(ours, theirs)) > 0.4 * len(truth)

    # In the rows of both, and in all else, they do not differ.
    compared = 0
    for pixel in our_tables.keys() & their_tables.keys():
        one, two = our_tables[pixel], their_tables[pixel]
        assert one.schema.equals(two.schema), pixel
        codes = [
            pa.array(codes_of({pixel: rows}, destinations)) for rows in (one, two)
        ]  # of one pixel: ascending ids
        both = pa.array(np.intersect1d(*codes))
        one, two = (
            rows.sort_by("id").filter(pc.is_in(code, both))
            for rows, code in zip((one, two), codes, strict=True)
        )
        assert one.equals(two), pixel
        compared += len(both)
    assert compared == len(np.intersect1d(ours, theirs))
    assert_same_description(our_margin, their_margin)


def assert_same_description(ours: Path, theirs: Path) -> None:
    """The metadata files are alike, but for the numbers of rows and the makers' names."""
    one, two = (
        json.loads((margin / "catalog_info.json").read_text("utf-8")) for margin in (ours, theirs)
    )
    assert list(one) == list(two)
    assert {**one, "total_rows": 0} == {**two, "total_rows": 0}
    one, two = (
        json.loads((margin / "provenance_info.json").read_text("utf-8"))
        for margin in (ours, theirs)
    )
    assert list(one) == list(two)
    assert {"tool_name", "version", "runtime_args"} <= one["tool_args"].keys()
    for name in ("_metadata", "_common_metadata"):
        assert pq.read_schema(ours / name).equals(pq.read_schema(theirs / name)), name
    one, two = (pq.read_metadata(margin / "_metadata") for margin in (ours, theirs))
    shared = [
        {meta.row_group(group).column(0).file_path for group in range(meta.num_row_groups)}
        for meta in (one, two)
    ]
    assert shared[0] & shared[1] and all(path.startswith("/Norder=") for path in shared[0])
    heads = {
        (margin / "partition_info.csv").read_text().splitlines()[0] for margin in (ours, theirs)
    }
    assert heads == {"Norder,Npix,Dir"}
