"""Plain lines where there is no terminal: one a minute at most, and fewer in long runs."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TextIO

from margin_cache.progress.display import Display, Key
from margin_cache.progress.work import UNITS, Amount, MarginWork, Stage, together
from margin_cache.storage.sizes import size_text

_VERBS = {
    Stage.MAPPING: "mapped",
    Stage.REDUCING: "reduced",
    Stage.FINISHING: "finished",
    Stage.AUDITING: "audited",
}
_PAUSE = 60.0  # [s]
_SHARE = 0.02  # of the time that a run has taken, which a pause is at least: 200 lines in a day
_LOOK = 1.0  # [s]


class Lines(Display):
    """Says now and then how much is done of all margins together."""

    def __init__(
        self, stream: TextIO, works: Mapping[str, MarginWork], pause: float = _PAUSE
    ) -> None:
        """Begin to count.

        Args:
            stream: where the lines go.
            works: what is counted of the margins, by the directories of their plans.
            pause: seconds between two lines, at least.
        """
        self._stream = stream
        self._work = together(list(works.values()))
        self._done = {stage: amounts.done for stage, amounts in self._work.stages.items()}
        self._pause = pause
        self._started = self._said = time.monotonic()
        super().__init__(min(_LOOK, pause))

    def advance(self, key: Key, amount: Amount) -> None:
        """Count what a job has done."""
        self._done[key[1]] += amount

    def tick(self) -> None:
        """Say how much is done, if the last line is long enough ago."""
        now = time.monotonic()
        if now - self._said >= max(self._pause, _SHARE * (now - self._started)):
            self._said = now
            print(self.text(now - self._started), file=self._stream, flush=True)

    def text(self, seconds: float) -> str:
        """Return a line that says how much is done, some seconds after the beginning."""
        parts = []
        for stage, amounts in self._work.stages.items():
            done, total = self._done[stage], amounts.total
            part = f"{_VERBS[stage]} {done.count} of {total.count} {UNITS[stage]}"
            if total.size:
                part += f" ({size_text(done.size)} of {size_text(total.size)})"
            parts.append(part)
        return f"{timedelta(seconds=round(seconds))}: {', '.join(parts)}{self._remaining(seconds)}"

    def _remaining(self, seconds: float) -> str:
        """Say how long the rest takes, if it goes on as it went in this run."""
        stages = self._work.stages.items()
        begun = sum(amounts.done.count for _, amounts in stages)
        done = sum(amount.count for amount in self._done.values())
        total = sum(amounts.total.count for _, amounts in stages)
        if done == begun:
            return ""
        rest = seconds * (total - done) / (done - begun)
        return f"; about {timedelta(seconds=round(rest))} left"
