"""The disk space that margins need, compared with the free space."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.receipts import done_jobs
from margin_cache.planning.forecast import Forecast, file_sizes, forecast
from margin_cache.planning.resources import largest_row_group
from margin_cache.storage.files import size_text

_DOUBT = 2
"""How many times too large a forecast may be."""


@dataclass(frozen=True)
class Place:
    """A file system, with the keys that lead to it, and the bytes that are needed and free."""

    keys: tuple[str, ...]
    path: Path
    needed: int
    free: int


def forecast_margin(margin: Margin) -> Forecast:
    """Return the forecast of a margin; some of its jobs may be done."""
    plan = margin.plan
    return forecast(plan, file_sizes(plan), largest_row_group(plan), *done_jobs(margin))


def disk_space(margins: Iterable[tuple[Margin, Forecast]]) -> list[Place]:
    """Return the file systems that margins are made on, each once."""
    places: dict[int, Place] = {}
    for margin, expected in margins:
        # A margin at a URL is put together in tmp_dir.
        output_key = "tmp_dir" if margin.files.url else "output_path"
        for key, path, needed in (
            (output_key, margin.files.output_dir.parent, expected.output),
            ("tmp_dir", margin.files.intermediate_dir, expected.intermediate),
        ):
            there = _existing(path)
            device = there.stat().st_dev
            place = places.get(device) or Place((), path, 0, shutil.disk_usage(there).free)
            keys = tuple(dict.fromkeys((*place.keys, key)))
            places[device] = replace(place, keys=keys, needed=place.needed + needed)
    return list(places.values())


def _existing(path: Path) -> Path:
    """Return the nearest directory around a path that exists, or the path itself."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_disk_space(places: Iterable[Place]) -> None:
    """Check that file systems have room for half of the forecast, which may be too high."""
    for place in places:
        if place.needed > _DOUBT * place.free:
            raise MarginCacheError(
                f"{place.keys[0]}: {_existing(place.path)} has {size_text(place.free)} free, and "
                f"about {size_text(place.needed)} are needed there. Make room, or choose another "
                f"{' or '.join(place.keys)}."
            )
