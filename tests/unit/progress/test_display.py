"""Bars on a terminal and lines elsewhere show how far a run is, and how long each stage takes."""

import io
import time
from collections.abc import Iterator

import pytest
from margin_cache.progress.display import Bars, Lines, open_display, terminal_size
from margin_cache.progress.work import Amount, MarginWork, Stage
from support.terminals import Screen, pseudo_terminal

HOUR = 3600.0


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def work(name: str, done: int = 0) -> MarginWork:
    return MarginWork(
        name,
        84,
        {
            Stage.MAPPING: {
                "earlier": Amount(done, 100 * done),
                "now": Amount(84 - done, 100 * (84 - done)),
            },
            Stage.REDUCING: {"now": Amount(90)},
            Stage.FINISHING: {"": Amount(90)},
        },
        {Stage.MAPPING: {"earlier"}},
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 120 columns and 40 lines that tells no size itself."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    return io.StringIO()


def seen(stream: io.StringIO) -> list[str]:
    screen = Screen()
    screen.write(stream.getvalue().replace("\n", "\r\n"))  # as terminals do
    return [line for line in screen.lines() if line]


def assert_lines_start(lines: list[str], *starts: str) -> None:
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == [*starts]


# --- bars ----------------------------------------------------------------------------------------


def test_each_margin_has_its_bars_from_the_start(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, {"1": work("a"), "2": work("b", done=42)}, 2.5, clock)
    assert_lines_start(
        lines := seen(terminal),
        *("a", "  Planning  100%", "  Mapping     0%", "  Reducing    0%", "  Finishing   0%"),
        *("b", "  Planning  100%", "  Mapping    50%", "  Reducing    0%", "  Finishing   0%"),
    )
    assert "84/84 partitions [00:02<00:00, 33.6/s]" in lines[1]
    assert "0/84 partitions [00:00<?, 0 B of 8.4 kB]" in lines[2]
    assert "42/84 partitions [00:00<?, 4.2 kB of 8.4 kB]" in lines[7]
    assert "0/90 pixels [00:00<?]" in lines[3]
    bars.close()


def test_jobs_are_counted_by_their_partitions_and_pixels(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, {"1": work("a"), "2": work("b")}, 0.1, clock)
    bars.advance(("2", Stage.MAPPING), Amount(42, 4000))
    bars.advance(("2", Stage.MAPPING), Amount(42, 4400))
    bars.advance(("1", Stage.REDUCING), Amount(45))
    bars.close()
    lines = seen(terminal)
    assert "100%" in lines[7] and "84/84" in lines[7] and "8.4 kB of 8.4 kB" in lines[7]
    assert " 50%" in lines[3] and "45/90" in lines[3]
    assert "  0%" in lines[2]
    assert len(lines) == 10


def test_the_clock_of_a_stage_starts_with_its_first_job_and_stops_with_its_last(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    clock.now += 100
    bars.started(("1", Stage.MAPPING))
    clock.now += 60
    bars.advance(("1", Stage.MAPPING), Amount(84, 8400))
    clock.now += 10
    bars.started(("1", Stage.REDUCING))
    clock.now += 5
    bars.started(("1", Stage.REDUCING))
    clock.now += 5
    bars.close()
    _, _, mapping, reducing, finishing = seen(terminal)
    assert "[01:00<00:00, 140 B/s, 8.4 kB of 8.4 kB]" in mapping
    assert "[00:10<?]" in reducing
    assert "[00:00<?]" in finishing


def test_the_time_left_of_a_stage_goes_by_its_own_speed(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    bars.started(("1", Stage.MAPPING))
    clock.now += 4.7 * HOUR
    bars.advance(("1", Stage.MAPPING), Amount(42, 4200))
    bars.close()
    _, _, mapping, reducing, _ = seen(terminal)
    assert "[4:42:00<4:42:00, " in mapping
    assert "[00:00<?]" in reducing


def test_the_time_left_goes_by_bytes_of_this_run(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, {"1": work("a", done=21)}, 0.1, clock)
    bars.started(("1", Stage.MAPPING))
    clock.now += 60
    bars.advance(("1", Stage.MAPPING), Amount(1, 2100))
    bars.close()
    assert "[01:00<02:00, 35 B/s, 4.2 kB of 8.4 kB]" in seen(terminal)[2]


def test_a_stage_whose_start_nobody_tells_starts_with_the_display(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    clock.now += 60
    bars.advance(("1", Stage.REDUCING), Amount(45))
    bars.close()
    assert "45/90 pixels [01:00<01:00, 45/min]" in seen(terminal)[3]


def test_other_text_stands_above_the_bars(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    bars.clear()
    bars.clear()  # another thread prints too
    terminal.write("Error in rule map_partitions:\n")
    bars.redraw()
    bars.advance(("1", Stage.REDUCING), Amount(45))
    terminal.write("    jobid: 1\n")
    bars.redraw()
    clock.now += 1
    bars.advance(("1", Stage.MAPPING), Amount(84, 8400))
    bars.close()
    terminal.write("The last line\n")
    assert_lines_start(
        seen(terminal),
        *("Error in rule map_partitions:", "    jobid: 1"),
        *("a", "  Planning  100%", "  Mapping   100%", "  Reducing   50%", "  Finishing   0%"),
        "The last line",
    )


def test_nothing_is_drawn_after_the_end(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    bars.close()
    drawn = terminal.getvalue()
    clock.now += 10
    bars.advance(("1", Stage.MAPPING), Amount(42, 4200))
    bars.redraw()
    bars.close()
    assert terminal.getvalue() == drawn


def test_bars_end_where_the_terminal_is_gone(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    terminal.close()
    clock.now += 10
    bars.advance(("1", Stage.MAPPING), Amount(42, 4200))
    bars.clear()
    bars.redraw()
    bars.close()


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_narrow_bars_drop_the_less_important_parts_first(
    columns: int, terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    bars = Bars(terminal, {"1": work("a")}, 0.1, clock)
    bars.started(("1", Stage.MAPPING))
    clock.now += 4.7 * HOUR
    bars.advance(("1", Stage.MAPPING), Amount(42, 4200))
    bars.close()
    lines = seen(terminal)
    mapping = lines[2]
    assert max(map(len, lines)) < columns
    assert "Mapping    50%" in mapping and "42/84" in mapping and "[4:42:00<4:42:00" in mapping
    assert ("█████" in mapping) == (columns >= 60)
    assert ("partitions" in mapping) == (columns >= 80)
    assert ("4.2 kB of 8.4 kB" in mapping) == (columns >= 100)
    assert len({line.rindex("|") for line in lines[1:] if "|" in line}) <= 1


def test_seven_margins_fit_on_24_lines(
    terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    names = [f"gaia_dr3_gaia_source_{number}0arcs" for number in range(1, 8)]
    bars = Bars(terminal, {name: work(name) for name in names}, 0.1, clock)
    bars.advance((names[1], Stage.MAPPING), Amount(84, 8400))
    bars.advance((names[2], Stage.MAPPING), Amount(42, 4200))
    bars.close()
    lines = seen(terminal)
    assert max(map(len, lines)) < 80
    assert_lines_start(
        lines,
        "  …dr3_gaia_source_10arcs mapping     0%|",
        "  …dr3_gaia_source_20arcs reducing    0%|",
        "  …dr3_gaia_source_30arcs mapping    50%|",
        *(f"  …dr3_gaia_source_{number}0arcs mapping     0%|" for number in range(4, 8)),
    )


def test_margins_that_do_not_fit_on_the_terminal_share_their_bars(
    terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "24")
    bars = Bars(terminal, {str(number): work(str(number)) for number in range(30)}, 0.1, clock)
    for number in range(15):
        bars.advance((str(number), Stage.MAPPING), Amount(84, 8400))
    bars.close()
    lines = seen(terminal)
    assert_lines_start(
        lines, "30 margins", "  Planning  100%", "  Mapping    50%", "  Red", "  Fin"
    )
    assert "1260/2520 partitions" in lines[2]


# --- the terminal --------------------------------------------------------------------------------


@pytest.fixture(params=[(24, 80), (30, 120), (0, 0)], ids=str)
def size(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    return request.param


def test_bars_follow_the_size_of_the_terminal(
    size: tuple[int, int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    with pseudo_terminal(*size) as (stream, read):
        assert terminal_size(stream) == ((size[1], size[0]) if all(size) else (80, 24))
        display = open_display(stream, {"1": work("a")}, 0.1)
        assert isinstance(display, Bars)
        display.close()
        screen = Screen()
        screen.write(read())
    lines = [line for line in screen.lines() if line]
    assert len(lines) == 5
    assert 60 < max(map(len, lines)) < (size[1] or 80)


@pytest.mark.parametrize(("value", "columns"), [("100", 100), ("0", 80), ("wide", 80), ("", 80)])
def test_a_terminal_of_unknown_size_has_that_of_the_environment(
    value: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", value)
    monkeypatch.delenv("LINES", raising=False)
    assert terminal_size(io.StringIO()) == (columns, 24)
    with pseudo_terminal(0, 0) as (stream, _):
        assert terminal_size(stream) == (columns, 24)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with pseudo_terminal(24, 80) as (stream, _):
        display = open_display(stream, {"1": work("a")}, 0.1)
        display.close()
    assert isinstance(display, Lines)


# --- lines ---------------------------------------------------------------------------------------


def test_a_line_counts_all_margins_and_the_time_left_of_each_stage(clock: Clock) -> None:
    lines = Lines(io.StringIO(), {"1": work("a", done=2), "2": work("b", done=2)}, clock)
    clock.now += 5
    assert lines.text() == (
        "0:00:05: mapped 4 of 168 partitions (400 B of 16.8 kB); reduced 0 of 180 pixels; "
        "finished 0 of 180 pixels"
    )
    lines.started(("1", Stage.MAPPING))
    clock.now += 60
    lines.started(("2", Stage.REDUCING))
    lines.advance(("1", Stage.MAPPING), Amount(32, 3200))
    lines.advance(("2", Stage.MAPPING), Amount(50, 5000))
    clock.now += 60
    lines.advance(("2", Stage.REDUCING), Amount(90))
    assert lines.text() == (
        "0:02:05: mapped 86 of 168 partitions (8.6 kB of 16.8 kB), about 0:02:05 left; "
        "reduced 90 of 180 pixels, about 0:01:00 left; finished 0 of 180 pixels"
    )
    lines.close()


@pytest.mark.parametrize(("hours", "most"), [(1, 60), (24, 250), (24 * 7, 350)])
def test_lines_are_a_minute_apart_and_more_in_long_runs(
    hours: int, most: int, clock: Clock
) -> None:
    lines = Lines(stream := io.StringIO(), {"1": work("a")}, clock)
    lines.close()
    for _ in range(0, hours * 3600, 5):
        lines.tick()
        clock.now += 5
    written = stream.getvalue().splitlines()
    assert 0.8 * most < len(written) <= most
    assert written[0].startswith("0:01:0")


def test_lines_say_nothing_in_the_first_minute_nor_at_the_end(clock: Clock) -> None:
    lines = Lines(stream := io.StringIO(), {"1": work("a")}, clock)
    lines.tick()
    lines.advance(("1", Stage.FINISHING), Amount(50))
    lines.clear()
    lines.redraw()
    lines.close()
    assert stream.getvalue() == ""


def test_a_display_lives_between_jobs_until_it_is_closed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margin_cache.progress.display._TICK", 0.001)
    lines = Lines(stream := io.StringIO(), {"1": work("a")}, clock)
    clock.now += 100
    deadline = time.monotonic() + 60
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.001)
    lines.close()
    said = stream.getvalue()
    assert said.startswith("0:01:40: mapped 0 of 84")
    clock.now += 100
    time.sleep(0.05)
    assert stream.getvalue() == said
