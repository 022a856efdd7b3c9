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
    Display,
    Stage,
    StageProgress,
    Work,
    audit_amounts,
    bars,
    line,
    terminal_columns,
)
from support.plans import PARAMETERS, make_plan, partitions_of
from support.terminals import Screen, pseudo_terminal

HOUR = 3600.0
PLAN = "intermediate/a/1"


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A terminal of 120 columns that tells no size itself."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        screen = Screen()
        screen.write(self.getvalue().replace("\n", "\r\n"))  # as terminals do
        return [line for line in screen.lines() if line]


def small_work(done: int = 0, margins: int = 1) -> Work:
    """The work of some margins of 84 partitions each."""
    work = Work()
    for number in range(1, margins + 1):
        directory = f"intermediate/a/{number}"
        earlier = ("earlier", Amount(done, 100 * done), True)
        now = ("now", Amount(84 - done, 100 * (84 - done)), False)
        work.add(directory, Stage.MAPPING, [earlier, now])
        work.add(directory, Stage.REDUCING, [(name, Amount(45), False) for name in "12"])
        work.add(directory, Stage.FINISHING, [("", Amount(90), False)])
    return work


MAPPING, REDUCING = (PLAN, Stage.MAPPING, "now"), (PLAN, Stage.REDUCING, "1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def assert_lines_start(lines: list[str], *starts: str) -> None:
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == [*starts]


# --- bars ----------------------------------------------------------------------------------------


def test_bars_of_all_margins_together_are_there_from_the_start(
    terminal: Terminal, clock: Clock
) -> None:
    work = small_work(21, margins=2)
    Display(terminal, "2 margins", work, 2.5, clock).close()
    assert_lines_start(
        lines := terminal.lines(),
        *("2 margins", "  Planning  100%", "  Mapping    25%", "  Reducing    0%", "  Fin"),
    )
    assert "168/168 partitions [00:02<00:00]" in lines[1]
    assert "42/168 partitions [00:00<?, 4.2 kB of 16.8 kB]" in lines[2]
    assert "0/180 pixels [00:00<?]" in lines[3]


def test_jobs_are_counted_by_their_partitions_and_pixels(terminal: Terminal, clock: Clock) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    display.finished(MAPPING)
    display.finished(REDUCING)
    display.finished((PLAN, Stage.MAPPING, "of another run"))
    display.close()
    lines = terminal.lines()
    assert lines[0] == "a" and len(lines) == 5
    assert "100%" in lines[2] and "84/84" in lines[2] and "8.4 kB of 8.4 kB" in lines[2]
    assert " 50%" in lines[3] and "45/90" in lines[3]


def test_the_clock_of_a_stage_starts_with_its_first_job_and_stops_with_its_last(
    terminal: Terminal, clock: Clock
) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    clock.now += 100
    display.started(MAPPING)
    clock.now += 60
    display.finished(MAPPING)
    clock.now += 10
    display.started(REDUCING)
    clock.now += 5
    display.started(REDUCING)
    clock.now += 5
    display.close()
    _, _, mapping, reducing, finishing = terminal.lines()
    assert "[01:00<00:00, 140 B/s, 8.4 kB of 8.4 kB]" in mapping
    assert "[00:10<?]" in reducing
    assert "[00:00<?]" in finishing


def test_a_stage_whose_start_nobody_tells_starts_with_the_display(
    terminal: Terminal, clock: Clock
) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    clock.now += 60
    display.finished(REDUCING)
    display.close()
    assert "45/90 pixels [01:00<01:00]" in terminal.lines()[3]


def half_mapped(size: int) -> Work:
    """The work of a margin after 4.7 hours, with half of the partitions mapped."""
    work = small_work()
    work.stages[Stage.MAPPING].start(0.0)
    work.stages[Stage.MAPPING].advance(Amount(42, size), 4.7 * HOUR)
    return work


def test_the_time_left_of_a_stage_goes_by_its_own_speed_in_bytes() -> None:
    _, mapping, reducing, _ = bars(half_mapped(4200), 0.1, 120, 4.7 * HOUR)
    assert "[4:42:00<4:42:00, " in mapping
    assert "[00:00<?]" in reducing
    assert "[4:42:00<14:06:00, " in bars(half_mapped(2100), 0.1, 120, 4.7 * HOUR)[1]


def test_other_text_stands_above_the_bars(terminal: Terminal, clock: Clock) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    display.clear()
    terminal.write("Error in rule map_partitions:\n")
    display.clear()  # another thread prints too
    display.finished(REDUCING)  # nothing is drawn between two lines
    terminal.write("    jobid: 1\n")
    clock.now += 1
    display.tick()
    display.finished(MAPPING)
    display.close()
    terminal.write("The last line\n")
    assert_lines_start(
        terminal.lines(),
        *("Error in rule map_partitions:", "    jobid: 1"),
        *("a", "  Planning  100%", "  Mapping   100%", "  Reducing   50%", "  Finishing   0%"),
        "The last line",
    )


def test_nothing_is_drawn_after_the_end(terminal: Terminal, clock: Clock) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    display.close()
    drawn = terminal.getvalue()
    clock.now += 10
    display.finished(MAPPING)
    display.close()
    assert terminal.getvalue() == drawn


def test_bars_end_where_the_terminal_is_gone(terminal: Terminal, clock: Clock) -> None:
    display = Display(terminal, "a", small_work(), 0.1, clock)
    terminal.close()
    clock.now += 10
    display.finished(MAPPING)
    display.clear()
    display.close()


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_narrow_bars_drop_the_less_important_parts_first(columns: int) -> None:
    lines = bars(half_mapped(4200), 0.1, columns - 1, 4.7 * HOUR)
    mapping = lines[1]
    assert max(map(len, lines)) < columns
    assert "Mapping    50%" in mapping and "42/84" in mapping and "[4:42:00<4:42:00" in mapping
    assert ("█████" in mapping) == (columns >= 60)
    assert ("partitions" in mapping) == (columns >= 80)
    assert ("4.2 kB of 8.4 kB" in mapping) == (columns >= 100)
    assert len({line.rindex("|") for line in lines if "|" in line}) <= 1


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
        Display(stream, "a", small_work(), 0.1, clock).close()
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
    terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    display = Display(terminal, "a", small_work(), 0.1, clock)
    clock.now += 60
    display.tick()
    display.close()
    (text,) = terminal.lines()
    assert text.startswith("0:01:00: mapped 0 of 84 partitions")


# --- lines ---------------------------------------------------------------------------------------


def test_a_line_counts_all_margins_and_the_time_left_of_each_stage() -> None:
    work = small_work(done=2, margins=2)
    assert line(work, 5.0, 5.0) == (
        "0:00:05: mapped 4 of 168 partitions (400 B of 16.8 kB); reduced 0 of 180 pixels; "
        "finished 0 of 180 pixels"
    )
    mapping, reducing = work.stages[Stage.MAPPING], work.stages[Stage.REDUCING]
    mapping.start(5.0)
    mapping.advance(Amount(82, 8200), 65.0)
    reducing.start(65.0)
    reducing.advance(Amount(90), 125.0)
    assert line(work, 125.0, 125.0) == (
        "0:02:05: mapped 86 of 168 partitions (8.6 kB of 16.8 kB), about 0:02:00 left; "
        "reduced 90 of 180 pixels, about 0:01:00 left; finished 0 of 180 pixels"
    )


@pytest.mark.parametrize(("hours", "most"), [(1, 60), (24, 250), (24 * 7, 350)])
def test_lines_are_a_minute_apart_and_more_in_long_runs(
    hours: int, most: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margin_cache.progress._TICK", 1000)
    display = Display(stream := io.StringIO(), "a", small_work(), 0.0, clock)
    for _ in range(0, hours * 3600, 5):
        display.tick()
        clock.now += 5
    display.close()
    written = stream.getvalue().splitlines()
    assert 0.8 * most < len(written) <= most
    assert written[0].startswith("0:01:0")


def test_lines_say_nothing_in_the_first_minute_nor_at_the_end(clock: Clock) -> None:
    display = Display(stream := io.StringIO(), "a", small_work(), 0.0, clock)
    display.tick()
    display.finished(MAPPING)
    display.clear()
    display.close()
    assert stream.getvalue() == ""


def test_a_display_lives_between_jobs_until_it_is_closed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margin_cache.progress._TICK", 0.001)
    display = Display(stream := io.StringIO(), "a", small_work(), 0.0, clock)
    clock.now += 100
    deadline = time.monotonic() + 60
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.001)
    display.close()
    said = stream.getvalue()
    assert said.startswith("0:01:40: mapped 0 of 84")
    clock.now += 100
    time.sleep(0.05)
    assert stream.getvalue() == said


# --- work ----------------------------------------------------------------------------------------


@pytest.fixture
def margin(tmp_path: Path) -> Margin:
    plan = make_plan(replace(PARAMETERS, partitions_per_job=3), partitions_of(4))
    return Margin(MarginSettings(tmp_dir=str(tmp_path)), "sky_10arcs", plan)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def work_of(margin: Margin, is_anew: bool) -> Work:
    work = Work()
    work.add_margin(margin, is_anew, ())
    return work


def total(work: Work) -> dict[Stage, Amount]:
    return {stage: progress.total for stage, progress in work.shown_stages()}


def done(work: Work) -> dict[Stage, Amount]:
    return {stage: progress.done for stage, progress in work.shown_stages()}


def test_jobs_add_up_to_the_whole(margin):
    plan, directory = margin.plan, str(margin.files.plan_dir)
    touch(*map(margin.files.receipt, plan.reduce_names))
    work = work_of(margin, is_anew=True)
    assert min(len(plan.map_names), len(plan.reduce_names)) > 2
    assert list(work.jobs) == [
        *((directory, Stage.MAPPING, name) for name in plan.map_names),
        *((directory, Stage.REDUCING, name) for name in plan.reduce_names),
        (directory, Stage.FINISHING, ""),
    ]
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
    amounts = [work.jobs[str(margin.files.plan_dir), Stage.MAPPING, name] for name in names[:2]]
    assert done(work)[Stage.MAPPING] == amounts[0] + amounts[1]
    assert done(work)[Stage.REDUCING] == Amount()


def test_a_finished_margin_that_is_finished_again_has_all_but_that_done(margin):
    touch(*map(margin.files.receipt, margin.plan.reduce_names))
    work = work_of(margin, is_anew=False)
    assert done(work) == total(work) | {Stage.FINISHING: Amount()}


def test_stages_of_several_margins_are_added_up(margin):
    touch(*map(margin.files.shard, margin.plan.map_names[:2]))
    one = work_of(margin, is_anew=False)
    both = work_of(margin, is_anew=False)
    both.add_margin(margin, True, ())
    for stage, progress in both.shown_stages():
        assert progress.total == total(one)[stage] + total(one)[stage]
        assert progress.before == progress.done == done(one)[stage]


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
