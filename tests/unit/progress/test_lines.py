"""Without a terminal, now and then a line says how much is done."""

import io
import time

import pytest
from margin_cache.progress.lines import Lines
from margin_cache.progress.work import Amount, MarginWork, Stage, StageWork

WORKS = {
    name: MarginWork(
        name,
        42,
        {
            Stage.MAPPING: StageWork(Amount(42, 10**9), Amount(2, 5 * 10**7)),
            Stage.REDUCING: StageWork(Amount(50), Amount()),
            Stage.FINISHING: StageWork(Amount(50), Amount()),
        },
    )
    for name in ("a", "b")
}


@pytest.fixture
def lines() -> Lines:
    return Lines(io.StringIO(), WORKS, pause=3600)


def test_a_line_counts_all_margins_and_what_is_left(lines):
    assert lines.text(5) == (
        "0:00:05: mapped 4 of 84 partitions (100 MB of 2 GB), reduced 0 of 100 pixels, "
        "finished 0 of 100 pixels"
    )
    lines.advance(("a", Stage.MAPPING), Amount(30, 4 * 10**8))
    lines.advance(("b", Stage.MAPPING), Amount(10, 10**8))
    lines.advance(("b", Stage.REDUCING), Amount(20))
    # 60 of 280 in a minute
    assert lines.text(60) == (
        "0:01:00: mapped 44 of 84 partitions (600 MB of 2 GB), reduced 20 of 100 pixels, "
        "finished 0 of 100 pixels; about 0:03:40 left"
    )
    lines.close()


@pytest.mark.parametrize(("hours", "most"), [(1, 60), (24, 250), (24 * 7, 350)])
def test_lines_are_a_minute_apart_and_more_in_long_runs(
    hours: int, most: int, monkeypatch: pytest.MonkeyPatch
):
    lines = Lines(stream := io.StringIO(), WORKS)
    lines.close()
    start = time.monotonic()
    for second in range(0, hours * 3600, 5):
        monkeypatch.setattr(time, "monotonic", lambda now=start + second: now)
        lines.tick()
    written = stream.getvalue().splitlines()
    assert 0.8 * most < len(written) <= most
    assert written[0].startswith("0:01:0")


def test_nothing_is_said_in_the_first_minute_nor_at_the_end(lines):
    lines.tick()
    lines.advance(("a", Stage.FINISHING), Amount(50))
    lines.close()
    assert lines._stream.getvalue() == ""
