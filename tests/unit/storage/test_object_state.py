"""States of objects as times of files on disk."""

import os
from pathlib import Path

from margin_cache.storage.object_state import ObjectState, has_state, is_object


def test_states_have_times_of_whole_seconds_that_differ_with_the_mark() -> None:
    times = {ObjectState(5, f'"{number}"').time for number in range(1000)}
    assert len(times) == 1000
    assert all(time % 10**9 == 0 for time in times)
    assert min(times) >= 315_532_800 * 10**9
    assert max(times) < 1_400_000_000 * 10**9


def test_a_file_stands_for_an_object_of_its_size_and_mark(tmp_path: Path) -> None:
    file = tmp_path / "object"
    assert not is_object(file, 5, '"a"')
    file.write_bytes(b"12345")
    state = ObjectState(5, '"a"')
    assert not has_state(file, 5, state.time)
    os.utime(file, ns=(state.time, state.time))
    assert is_object(file, 5, '"a"')
    assert not is_object(file, 5, '"b"')
    assert not is_object(file, 4, '"a"')
