"""Bars on a terminal: a set for each margin, one below the other."""

import shutil
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from tqdm import tqdm

from margin_cache.progress.display import Display, Key
from margin_cache.progress.work import UNITS, Amount, MarginWork, StageWork, together
from margin_cache.storage.sizes import size_text

_REFRESH = 1.0  # [s]
_OTHER_LINES = 4  # of a terminal, beside the bars
_NAMES = 10  # width of the names of stages
_FORMAT = (
    "  {desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} UNIT"
    " [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
)


class _Bar(tqdm):  # type: ignore[misc]  # tqdm has no type hints
    """A bar whose time stops when it is full."""

    took: float | None = None  # [s]

    @property
    def format_dict(self) -> dict[str, Any]:
        """What its text is made of."""
        values: dict[str, Any] = super().format_dict
        if self.total and self.n >= self.total:
            if self.took is None:
                self.took = values["elapsed"]
            values["elapsed"] = self.took
        return values


class Bars(Display):
    """Bars of the stages of margins: how much is done, how fast, and how long it will take."""

    def __init__(
        self, stream: TextIO, works: Mapping[str, MarginWork], planned: float, lines: int = 0
    ) -> None:
        """Draw the bars.

        Args:
            stream: the terminal.
            works: what is counted of the margins, by the directories of their plans.
            planned: seconds that planning has taken.
            lines: lines of the terminal; 0 to ask for their number.
        """
        # Its own lock holds between processes too, for which it would start another one.
        tqdm.set_lock(threading.RLock())
        self._stream = stream
        self._bars: list[_Bar] = []
        self._stages: dict[Key, _Bar] = {}
        self._sizes: dict[_Bar, tuple[int, int]] = {}
        room = (lines or shutil.get_terminal_size().lines) - _OTHER_LINES
        if sum(2 + len(work.stages) for work in works.values()) > room:
            self._draw(together(list(works.values())), list(works), planned)
        else:
            for key, work in works.items():
                self._draw(work, [key], planned)
        super().__init__(_REFRESH)

    def _draw(self, work: MarginWork, keys: list[str], planned: float) -> None:
        """Draw the bars of a margin, or of several together."""
        self._add(total=0, bar_format=work.name)
        planning = self._stage("Planning", "partitions", Amount(work.partitions), Amount())
        planning.took = planned
        planning.update(work.partitions)
        planning.refresh()
        for stage, amounts in work.stages.items():
            name = stage.name.capitalize()
            bar = self._stage(name, UNITS[stage], amounts.total, amounts.done)
            self._stages.update({(key, stage): bar for key in keys})
            self._describe(bar, amounts)

    def _stage(self, name: str, unit: str, total: Amount, done: Amount) -> _Bar:
        return self._add(
            desc=f"{name:{_NAMES}}",
            total=total.count,
            initial=done.count,
            unit="",
            mininterval=0.1,
            smoothing=0,
            bar_format=_FORMAT.replace("UNIT", unit),
        )

    def _add(self, **options: Any) -> _Bar:
        bar = _Bar(position=len(self._bars), file=self._stream, dynamic_ncols=True, **options)
        self._bars.append(bar)
        return bar

    def _describe(self, bar: _Bar, amounts: StageWork) -> None:
        """Have a bar tell its bytes, if it has any."""
        if amounts.total.size:
            self._sizes[bar] = amounts.done.size, amounts.total.size
            bar.set_postfix_str(_sizes_text(*self._sizes[bar]))

    def advance(self, key: Key, amount: Amount) -> None:
        """Count what a job has done."""
        bar = self._stages[key]
        if bar in self._sizes:
            done, total = self._sizes[bar]
            self._sizes[bar] = done + amount.size, total
            bar.set_postfix_str(_sizes_text(*self._sizes[bar]), refresh=False)
        bar.update(amount.count)
        if bar.n >= bar.total:
            bar.refresh()

    def aside(self, write: Callable[[], object]) -> None:
        """Have something else written above the bars."""
        with tqdm.external_write_mode(file=self._stream):
            write()

    def tick(self) -> None:
        """Show that time has passed."""
        for bar in self._bars:
            if bar.total and bar.n < bar.total:
                bar.refresh()

    def close(self) -> None:
        """Draw the bars for the last time, and leave them above what follows."""
        super().close()
        for bar in self._bars:
            bar.close()


def _sizes_text(done: int, total: int) -> str:
    return f"{size_text(done)} of {size_text(total)}"
