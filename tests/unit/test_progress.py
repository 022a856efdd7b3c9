"""The work of a run is counted, whatever jobs it is in; bars or lines show how far it is."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.config.model import MarginSettings
from margin_cache.margin.model import Margin
from margin_cache.progress import (
    Amount,
    Bars,
    Lines,
    MarginWork,
    Stage,
    StageProgress,
    audit_amounts,
    open_display,
    progress_of,
    terminal_columns,
    work_of,
)
from support.plans import PARAMETERS, make_plan, partitions_of
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
    """A terminal of 120 columns that tells no size itself."""
    monkeypatch.setenv("COLUMNS", "120")
    return io.StringIO()


def seen(stream: io.StringIO) -> list[str]:
    screen = Screen()
    screen.write(stream.getvalue().replace("\n", "\r\n"))  # as terminals do
    return [line for line in screen.lines() if line]


def assert_lines_start(lines: list[str], *starts: str) -> None:
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == [*starts]


# --- bars ----------------------------------------------------------------------------------------


def test_bars_of_all_margins_together_are_there_from_the_start(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, [work("a"), work("b", done=42)], 2.5, clock)
    assert_lines_start(
        lines := seen(terminal),
        *("2 margins", "  Planning  100%", "  Mapping    25%", "  Reducing    0%", "  Fin"),
    )
    assert "168/168 partitions [00:02<00:00]" in lines[1]
    assert "42/168 partitions [00:00<?, 4.2 kB of 16.8 kB]" in lines[2]
    assert "0/180 pixels [00:00<?]" in lines[3]
    bars.close()


def test_jobs_are_counted_by_their_partitions_and_pixels(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    bars.advance(Stage.MAPPING, Amount(42, 4000))
    bars.advance(Stage.MAPPING, Amount(42, 4400))
    bars.advance(Stage.REDUCING, Amount(45))
    bars.close()
    lines = seen(terminal)
    assert lines[0] == "a" and len(lines) == 5
    assert "100%" in lines[2] and "84/84" in lines[2] and "8.4 kB of 8.4 kB" in lines[2]
    assert " 50%" in lines[3] and "45/90" in lines[3]


def test_the_clock_of_a_stage_starts_with_its_first_job_and_stops_with_its_last(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    clock.now += 100
    bars.started(Stage.MAPPING)
    clock.now += 60
    bars.advance(Stage.MAPPING, Amount(84, 8400))
    clock.now += 10
    bars.started(Stage.REDUCING)
    clock.now += 5
    bars.started(Stage.REDUCING)
    clock.now += 5
    bars.close()
    _, _, mapping, reducing, finishing = seen(terminal)
    assert "[01:00<00:00, 140 B/s, 8.4 kB of 8.4 kB]" in mapping
    assert "[00:10<?]" in reducing
    assert "[00:00<?]" in finishing


def test_the_time_left_of_a_stage_goes_by_its_own_speed(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    bars.started(Stage.MAPPING)
    clock.now += 4.7 * HOUR
    bars.advance(Stage.MAPPING, Amount(42, 4200))
    bars.close()
    _, _, mapping, reducing, _ = seen(terminal)
    assert "[4:42:00<4:42:00, " in mapping
    assert "[00:00<?]" in reducing


def test_the_time_left_goes_by_bytes_of_this_run(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, [work("a", done=21)], 0.1, clock)
    bars.started(Stage.MAPPING)
    clock.now += 60
    bars.advance(Stage.MAPPING, Amount(1, 2100))
    bars.close()
    assert "[01:00<02:00, 35 B/s, 4.2 kB of 8.4 kB]" in seen(terminal)[2]


def test_a_stage_whose_start_nobody_tells_starts_with_the_display(
    terminal: io.StringIO, clock: Clock
) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    clock.now += 60
    bars.advance(Stage.REDUCING, Amount(45))
    bars.close()
    assert "45/90 pixels [01:00<01:00]" in seen(terminal)[3]


def test_other_text_stands_above_the_bars(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    bars.clear()
    bars.clear()  # another thread prints too
    terminal.write("Error in rule map_partitions:\n")
    bars.redraw()
    bars.advance(Stage.REDUCING, Amount(45))
    terminal.write("    jobid: 1\n")
    bars.redraw()
    clock.now += 1
    bars.advance(Stage.MAPPING, Amount(84, 8400))
    bars.close()
    terminal.write("The last line\n")
    assert_lines_start(
        seen(terminal),
        *("Error in rule map_partitions:", "    jobid: 1"),
        *("a", "  Planning  100%", "  Mapping   100%", "  Reducing   50%", "  Finishing   0%"),
        "The last line",
    )


def test_nothing_is_drawn_after_the_end(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    bars.close()
    drawn = terminal.getvalue()
    clock.now += 10
    bars.advance(Stage.MAPPING, Amount(42, 4200))
    bars.redraw()
    bars.close()
    assert terminal.getvalue() == drawn


def test_bars_end_where_the_terminal_is_gone(terminal: io.StringIO, clock: Clock) -> None:
    bars = Bars(terminal, [work("a")], 0.1, clock)
    terminal.close()
    clock.now += 10
    bars.advance(Stage.MAPPING, Amount(42, 4200))
    bars.clear()
    bars.redraw()
    bars.close()


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_narrow_bars_drop_the_less_important_parts_first(
    columns: int, terminal: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    bars = Bars(terminal, [work("a")], 0.1, clock)
    bars.started(Stage.MAPPING)
    clock.now += 4.7 * HOUR
    bars.advance(Stage.MAPPING, Amount(42, 4200))
    bars.close()
    lines = seen(terminal)
    mapping = lines[2]
    assert max(map(len, lines)) < columns
    assert "Mapping    50%" in mapping and "42/84" in mapping and "[4:42:00<4:42:00" in mapping
    assert ("█████" in mapping) == (columns >= 60)
    assert ("partitions" in mapping) == (columns >= 80)
    assert ("4.2 kB of 8.4 kB" in mapping) == (columns >= 100)
    assert len({line.rindex("|") for line in lines[1:] if "|" in line}) <= 1


# --- the terminal --------------------------------------------------------------------------------


@pytest.fixture(params=[(24, 80), (30, 120), (0, 0)], ids=str)
def size(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    return request.param


def test_bars_follow_the_size_of_the_terminal(
    size: tuple[int, int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    with pseudo_terminal(*size) as (stream, read):
        assert terminal_columns(stream) == (size[1] or 80)
        display = open_display(stream, [work("a")], 0.1)
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
    assert terminal_columns(io.StringIO()) == columns
    with pseudo_terminal(0, 0) as (stream, _):
        assert terminal_columns(stream) == columns


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with pseudo_terminal(24, 80) as (stream, _):
        display = open_display(stream, [work("a")], 0.1)
        display.close()
    assert isinstance(display, Lines)


# --- lines ---------------------------------------------------------------------------------------


def test_a_line_counts_all_margins_and_the_time_left_of_each_stage(clock: Clock) -> None:
    lines = Lines(io.StringIO(), [work("a", done=2), work("b", done=2)], 0.0, clock)
    clock.now += 5
    assert lines.text() == (
        "0:00:05: mapped 4 of 168 partitions (400 B of 16.8 kB); reduced 0 of 180 pixels; "
        "finished 0 of 180 pixels"
    )
    lines.started(Stage.MAPPING)
    clock.now += 60
    lines.started(Stage.REDUCING)
    lines.advance(Stage.MAPPING, Amount(32, 3200))
    lines.advance(Stage.MAPPING, Amount(50, 5000))
    clock.now += 60
    lines.advance(Stage.REDUCING, Amount(90))
    assert lines.text() == (
        "0:02:05: mapped 86 of 168 partitions (8.6 kB of 16.8 kB), about 0:02:00 left; "
        "reduced 90 of 180 pixels, about 0:01:00 left; finished 0 of 180 pixels"
    )
    lines.close()


@pytest.mark.parametrize(("hours", "most"), [(1, 60), (24, 250), (24 * 7, 350)])
def test_lines_are_a_minute_apart_and_more_in_long_runs(
    hours: int, most: int, clock: Clock
) -> None:
    lines = Lines(stream := io.StringIO(), [work("a")], 0.0, clock)
    lines.close()
    for _ in range(0, hours * 3600, 5):
        lines.tick()
        clock.now += 5
    written = stream.getvalue().splitlines()
    assert 0.8 * most < len(written) <= most
    assert written[0].startswith("0:01:0")


def test_lines_say_nothing_in_the_first_minute_nor_at_the_end(clock: Clock) -> None:
    lines = Lines(stream := io.StringIO(), [work("a")], 0.0, clock)
    lines.tick()
    lines.advance(Stage.FINISHING, Amount(50))
    lines.clear()
    lines.redraw()
    lines.close()
    assert stream.getvalue() == ""


def test_a_display_lives_between_jobs_until_it_is_closed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margin_cache.progress._TICK", 0.001)
    lines = Lines(stream := io.StringIO(), [work("a")], 0.0, clock)
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


# --- work ----------------------------------------------------------------------------------------


@pytest.fixture
def margin(tmp_path: Path) -> Margin:
    plan = make_plan(replace(PARAMETERS, partitions_per_job=3), partitions_of(4))
    return Margin(
        MarginSettings(tmp_dir=str(tmp_path)), "sky_10arcs", tmp_path / "sky_10arcs", plan, "", {}
    )


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def total(work: MarginWork) -> dict[Stage, Amount]:
    return {stage: progress.total for stage, progress in progress_of([work]).items()}


def done(work: MarginWork) -> dict[Stage, Amount]:
    return {stage: progress.done for stage, progress in progress_of([work]).items()}


def test_jobs_add_up_to_the_whole(margin):
    plan = margin.plan
    touch(*map(margin.files.receipt, plan.reduce_names))
    work = work_of(margin, is_anew=True)
    assert work.name == margin.name
    assert list(work.jobs[Stage.MAPPING]) == list(plan.map_names)
    assert list(work.jobs[Stage.REDUCING]) == list(plan.reduce_names)
    assert min(len(plan.map_names), len(plan.reduce_names)) > 2
    assert total(work) == {
        Stage.MAPPING: Amount(len(plan.partitions.orders), int(plan.partitions.sizes.sum())),
        Stage.REDUCING: Amount(len(plan.destination_orders)),
        Stage.FINISHING: Amount(len(plan.destination_orders)),
    }
    assert set(done(work).values()) == {Amount()}


def test_what_an_earlier_run_has_done_is_counted(margin):
    names = margin.plan.map_names
    touch(*map(margin.files.shard, names[:2]))
    work = work_of(margin, is_anew=False)
    jobs = work.jobs[Stage.MAPPING]
    assert done(work)[Stage.MAPPING] == jobs[names[0]] + jobs[names[1]]
    assert done(work)[Stage.REDUCING] == Amount()


def test_a_finished_margin_that_is_finished_again_has_all_but_that_done(margin):
    touch(*map(margin.files.receipt, margin.plan.reduce_names))
    work = work_of(margin, is_anew=False)
    assert done(work) == total(work) | {Stage.FINISHING: Amount()}


def test_stages_of_several_margins_are_added_up(margin):
    touch(*map(margin.files.shard, margin.plan.map_names[:2]))
    work = work_of(margin, is_anew=False)
    both = progress_of([work, work_of(margin, is_anew=True)])
    for stage, progress in both.items():
        assert progress.total == total(work)[stage] + total(work)[stage]
        assert progress.before == progress.done == done(work)[stage]


def test_nothing_is_known_of_a_stage_before_its_first_job_ends():
    stage = StageProgress(Amount(5), Amount(1), Amount(1))
    assert stage.seconds_left(9.0) is None
    stage.start(3.0)
    stage.start(6.0)
    assert (stage.elapsed(9.0), stage.seconds_left(9.0)) == (6.0, None)
    stage.advance(Amount(2), 9.0)
    assert stage.seconds_left(9.0) == 6.0
    stage.advance(Amount(2), 10.0)
    assert (stage.elapsed(50.0), stage.seconds_left(50.0)) == (7.0, 0.0)


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_jobs_of_an_audit_add_up_to_the_catalog(margin, fraction):
    amounts = audit_amounts(margin, fraction)
    assert sum(amounts, Amount()) == amount_of_all(margin)
    assert len(amounts) > 1 and all(each.count for each in amounts)


def amount_of_all(margin: Margin) -> Amount:
    sizes = margin.plan.partitions.sizes
    return Amount(len(sizes), int(sizes.sum()))
