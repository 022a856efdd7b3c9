"""Bars on a terminal count what is done, and leave room for what else is said."""

import io

from margin_cache.progress.bars import Bars
from margin_cache.progress.work import Amount, MarginWork, Stage, StageWork
from support.terminals import Screen


def work(name: str, done: int = 0) -> MarginWork:
    return MarginWork(
        name,
        84,
        {
            Stage.MAPPING: StageWork(Amount(84, 8400), Amount(done, 100 * done)),
            Stage.REDUCING: StageWork(Amount(90), Amount()),
            Stage.FINISHING: StageWork(Amount(90), Amount()),
        },
    )


def seen(stream: io.StringIO) -> list[str]:
    screen = Screen()
    screen.write(stream.getvalue().replace("\n", "\r\n"))  # as terminals do
    return [line for line in screen.lines() if line]


def begins(lines: list[str], *starts: str) -> None:
    """Check how lines begin, of which there are no others."""
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == [*starts]


def test_each_margin_has_its_bars_from_the_start():
    stream = io.StringIO()
    bars = Bars(stream, {"1": work("a"), "2": work("b", done=42)}, 2.5, lines=40)
    begins(
        lines := seen(stream),
        *("a", "  Planning  100%", "  Mapping     0%", "  Reducing    0%", "  Finishing   0%"),
        *("b", "  Planning  100%", "  Mapping    50%", "  Reducing    0%", "  Finishing   0%"),
    )
    assert "84/84 partitions [00:02<00:00, 33.60/s]" in lines[1]
    assert "0/84 partitions" in lines[2] and lines[2].endswith("0 B of 8.4 kB]")
    assert "42/84 partitions" in lines[7] and lines[7].endswith("4.2 kB of 8.4 kB]")
    assert "0/90 pixels" in lines[3]
    bars.close()


def test_jobs_are_counted_by_what_they_cover():
    stream = io.StringIO()
    bars = Bars(stream, {"1": work("a"), "2": work("b")}, 0.1, lines=40)
    bars.advance(("2", Stage.MAPPING), Amount(42, 4000))
    bars.advance(("2", Stage.MAPPING), Amount(42, 4400))
    bars.advance(("1", Stage.REDUCING), Amount(45))
    bars.close()
    lines = seen(stream)
    assert "100%" in lines[7] and "84/84" in lines[7] and "8.4 kB of 8.4 kB" in lines[7]
    assert " 50%" in lines[3] and "45/90" in lines[3]
    assert "  0%" in lines[2]
    assert len(lines) == 10


def test_what_else_is_said_stands_above_the_bars():
    stream = io.StringIO()
    bars = Bars(stream, {"1": work("a")}, 0.1, lines=40)
    bars.aside(lambda: stream.write("Error in rule map_partitions:\n    jobid: 1\n"))
    bars.advance(("1", Stage.MAPPING), Amount(84, 8400))
    bars.close()
    stream.write("The last line\n")
    begins(
        seen(stream),
        *("Error in rule map_partitions:", "    jobid: 1"),
        *("a", "  Planning  100%", "  Mapping   100%", "  Reducing    0%", "  Finishing   0%"),
        "The last line",
    )


def test_margins_that_do_not_fit_on_the_terminal_share_their_bars():
    stream = io.StringIO()
    bars = Bars(stream, {str(number): work(str(number)) for number in range(10)}, 0.1, lines=24)
    for number in range(5):
        bars.advance((str(number), Stage.MAPPING), Amount(84, 8400))
    bars.close()
    lines = seen(stream)
    begins(lines, "10 margins", "  Planning  100%", "  Mapping    50%", "  Red", "  Fin")
    assert "420/840 partitions" in lines[2]


def test_the_time_of_a_full_bar_stops():
    stream = io.StringIO()
    bars = Bars(stream, {"1": work("a")}, 0.1, lines=40)
    bar = bars._stages["1", Stage.MAPPING]
    bars.advance(("1", Stage.MAPPING), Amount(84, 8400))
    took = bar.took
    bar.start_t -= 1000
    bars.tick()
    assert bar.format_dict["elapsed"] == took < 100
    assert bars._stages["1", Stage.REDUCING].format_dict["elapsed"] < 1000
    bars.close()
