"""Faults that are injected on purpose, and what becomes of the margin.

Each kind of fault counts its cases: *survived*, if the margin came out right in spite of it; *clear
error*, if the run ended with one line that says what is wrong, and nothing was lost; *wrong*, all
else. Counts travel with pytest's reports, so that one table can be printed of all kinds.
"""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

PROPERTY = "faults"
SEED = int(os.environ.get("FAULTS_SEED", "1"))
LONG = bool(os.environ.get("FAULTS_LONG"))

SURVIVED, CLEAR_ERROR = "survived", "clear error"
COLUMNS = ("tried", SURVIVED, CLEAR_ERROR, "wrong")


@dataclass
class Tally:
    """The cases of one kind of fault."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, case: str, outcome: str) -> None:
        """Count a case; an outcome that is neither of the good ones says what went wrong."""
        self.counts["tried"] += 1
        if outcome in (SURVIVED, CLEAR_ERROR):
            self.counts[outcome] += 1
        else:
            self.counts["wrong"] += 1
            self.wrong.append(f"{case}: {outcome}")

    def property(self) -> tuple[str, str]:
        """What pytest's report of a test carries."""
        return PROPERTY, json.dumps([self.kind, dict(self.counts)])


def table(properties: Iterable[tuple[str, str]]) -> list[str]:
    """The lines of the table of all kinds, in Markdown."""
    kinds: dict[str, Counter[str]] = {}
    for name, value in properties:
        if name == PROPERTY:
            kind, counts = json.loads(value)
            kinds.setdefault(kind, Counter()).update(counts)
    total: Counter[str] = Counter()
    lines = [f"| kind | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for kind, counts in sorted(kinds.items()):
        total.update(counts)
        lines.append(_row(kind, counts))
    return [*lines, _row("all", total)] if kinds else []


def _row(kind: str, counts: Counter[str]) -> str:
    return f"| {kind} | {' | '.join(f'{counts[column]:,}' for column in COLUMNS)} |"


def sample(cases: Sequence, short: int, kind: str, long: int | None = None) -> list:
    """All cases, or as many as wanted, in the long form; a few in the short one, by the seed."""
    wanted = (long or len(cases)) if LONG else short
    if len(cases) <= wanted:
        return list(cases)
    return random.Random(f"{SEED} {kind}").sample(list(cases), wanted)


def number(short: int, long: int) -> int:
    """How many random cases there are of a kind, by the form of the campaign."""
    return long if LONG else short


def outcome_of_error(text: str) -> str:
    """Judge what a process that failed has said: one line at its end that begins with "error: "."""
    lines = [line for line in text.rstrip().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if "Traceback" in text:
        return f"a traceback: {lines[-1]}"
    if len(errors) != 1 or not re.search(r"error: .{12,}", errors[0]):
        return f"no clear line: {text[-300:]!r}"
    return CLEAR_ERROR


def outcome_of_end(code: int, text: str) -> str:
    """Judge how a process has ended: "" if well."""
    if code == 0:
        return ""
    if code in (1, 75):  # a final error; one that another attempt may not meet
        return outcome_of_error(text)
    return f"ended by signal or code {code}: {text[-200:]}"


def outcome_of(check: Callable[[], object]) -> str:
    """Survived if a check passes, or what it found."""
    try:
        check()
    except AssertionError as error:
        return f"not as without the fault: {str(error)[:300]}"
    return SURVIVED


def outcome_after(outcome: str, check: Callable[[], object]) -> str:
    """The outcome of a case, if what has to be true after it is."""
    if outcome not in ("", SURVIVED, CLEAR_ERROR):
        return outcome
    found = outcome_of(check)
    return found if found != SURVIVED else outcome or SURVIVED
