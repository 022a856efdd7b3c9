"""Columns as catalogs of real surveys have them: nulls in most, strings, flags, times, lists."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Generator = np.random.Generator
Maker = Callable[[Generator, int], pa.Array]


def _missing(rng: Generator, rows: int, share: float) -> npt.NDArray[np.bool_]:
    """Which rows have no value."""
    return rng.random(rows, np.float32) < share


def _floats(kind: type, null_share: float, digits: int | None = None) -> Maker:
    """Normal values, of few digits or of all."""

    def make(rng: Generator, rows: int) -> pa.Array:
        values = 20.0 + 2.0 * rng.standard_normal(rows, np.float32)
        values = values.astype(kind) if digits is None else values.round(digits).astype(kind)
        return pa.array(values, mask=_missing(rng, rows, null_share) if null_share else None)

    return make


def _full_doubles(null_share: float) -> Maker:
    """Normal doubles with all their bits."""

    def make(rng: Generator, rows: int) -> pa.Array:
        mask = _missing(rng, rows, null_share) if null_share else None
        return pa.array(rng.standard_normal(rows), mask=mask)

    return make


def _few_strings(rng: Generator, rows: int) -> pa.Array:
    """A class: one of a dozen words, or none."""
    words = pa.array([f"class {number}" for number in range(12)])
    chosen = rng.integers(0, len(words), rows, dtype=np.int8)
    return words.take(pa.array(chosen, mask=_missing(rng, rows, 0.2)))


def _many_strings(rng: Generator, rows: int) -> pa.Array:
    """A designation: another string in nearly every row."""
    return pa.array(rng.integers(10**11, 10**12, rows)).cast(pa.string())


def _flags(rng: Generator, rows: int) -> pa.Array:
    return pa.array(1 << rng.geometric(0.4, rows).clip(max=20).astype(np.int32))


def _booleans(rng: Generator, rows: int) -> pa.Array:
    return pa.array(rng.random(rows, np.float32) < 0.03)


def _counts(rng: Generator, rows: int) -> pa.Array:
    return pa.array(rng.poisson(40, rows).astype(np.int16))


def _times(rng: Generator, rows: int) -> pa.Array:
    """Microseconds of ten years, without a zone; some rows have none."""
    start = np.datetime64("2014-07-25", "us").astype(np.int64)
    moments = start + rng.integers(0, 10 * 365 * 86_400_000_000, rows)
    return pa.array(moments, mask=_missing(rng, rows, 0.1)).cast(pa.timestamp("us"))


KINDS: tuple[tuple[str, Maker], ...] = (
    ("parallax", _full_doubles(0.2)),
    ("mag", _floats(np.float32, 0.3, digits=3)),
    ("mag_error", _floats(np.float32, 0.3)),
    ("flux", _full_doubles(0.0)),
    ("class", _few_strings),
    ("colour", _floats(np.float32, 0.5)),
    ("flags", _flags),
    ("flux_error", _floats(np.float32, 0.1)),
    ("designation", _many_strings),
    ("variable", _booleans),
    ("temperature", _floats(np.float64, 0.7, digits=1)),
    ("observed", _times),
    ("proper_motion", _full_doubles(0.2)),
    ("observations", _counts),
    ("chi_square", _floats(np.float32, 0.0)),
)
"""Of 15 columns, 10 are floats; of these, 8 have nulls."""


def survey_columns(rng: Generator, rows: int, columns: int) -> dict[str, pa.Array]:
    """So many columns, of all kinds in turn: ``parallax_000``, ``mag_001`` and so on."""
    return {
        f"{name}_{number:03d}": make(rng, rows)
        for number in range(columns)
        for name, make in [KINDS[number % len(KINDS)]]
    }


def light_curves(rng: Generator, rows: int) -> pa.Array:
    """Up to five observations a row, as a struct of lists; some rows have none at all."""
    lengths = rng.integers(0, 6, rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    total = int(lengths.sum())
    lists = [
        pa.ListArray.from_arrays(offsets, pa.array(values))
        for values in (rng.uniform(6e4, 6.3e4, total), rng.normal(20, 2, total).astype(np.float32))
    ]
    missing = pa.array(_missing(rng, rows, 0.1))
    return pa.StructArray.from_arrays(lists, ["time", "mag"], mask=missing)
