from margin_cache.audit.pixels import FINEST, beginning


def test_a_pixel_begins_where_its_first_descendant_does() -> None:
    assert beginning((FINEST, 5)) == 5
    assert beginning((FINEST - 1, 5)) == 20
    assert beginning((0, 11)) == 11 * 4**FINEST
    assert beginning((3, 8)) == beginning((2, 2)) < beginning((3, 9))
