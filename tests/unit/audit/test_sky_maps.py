from pathlib import Path

import matplotlib.image
import numpy as np
from margin_cache.audit.sky_maps import FINEST, draw_sky_map, sky_map


def test_a_map_has_the_rows_of_each_pixel_at_its_place() -> None:
    values = sky_map({(0, 1): 3, (2, 5): 7, (2, 0): 0})
    assert len(values) == 192
    assert (values[16:32] == 3).all()
    assert values[5] == 7
    assert values[0] == 0
    assert np.isnan(values).sum() == 192 - 18


def test_pixels_that_are_too_small_are_added_up() -> None:
    values = sky_map({(FINEST + 1, 4): 1, (FINEST + 1, 7): 2})
    assert np.nansum(values) == values[1] == 3


def test_the_picture_shows_where_rows_are(tmp_path: Path) -> None:
    for name, rows in (("none", 0), ("some", 5)):
        draw_sky_map(
            {(1, number): rows * (number == 20) for number in range(48)}, "", tmp_path / name
        )
    none, some = (matplotlib.image.imread(tmp_path / name, "png") for name in ("none", "some"))
    assert none.shape == some.shape
    share = (none != some).any(axis=2).mean()
    assert 0.001 < share < 0.1
