"""The limits of a cluster's partitions, as SLURM tells them.

By default SLURM takes a job that asks for more than its partition allows, and lets it wait for ever
(``EnforcePartLimits=NO``). ``sbatch --test-only`` does not notice either.
"""

import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from margin_cache.errors import MarginCacheError

_UNLIMITED = {"UNLIMITED", "INFINITE", "NONE"}
_TIMEOUT = 60  # for an answer of SLURM [s]


@dataclass(frozen=True)
class Limits:
    """What one job may ask for in a partition.

    Attributes:
        minutes: time; infinite if there is no limit.
        memory_mb: memory on one node; infinite if there is no limit.
        is_default: whether jobs that name no partition run there.
    """

    minutes: float
    memory_mb: float
    is_default: bool = False

    def allow(self, memory_mb: float, minutes: float) -> bool:
        """Tell whether a job may ask for memory and time."""
        return memory_mb <= self.memory_mb and minutes <= self.minutes


def ask_slurm() -> dict[str, Limits]:
    """Return the limits of all partitions by their names; empty if SLURM does not answer."""
    try:
        partitions = _output("scontrol", "--all", "--oneliner", "show", "partition")
        settings = _output("scontrol", "show", "config")
        nodes = _output("sinfo", "--all", "--noheader", "--exact", "--format=%R|%m")
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_limits(partitions, settings, nodes)


def _output(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", timeout=_TIMEOUT
    ).stdout


def parse_limits(partitions: str, settings: str, nodes: str) -> dict[str, Limits]:
    """Return the limits of partitions by their names.

    Args:
        partitions: what ``scontrol --oneliner show partition`` prints.
        settings: what ``scontrol show config`` prints, which has a limit of the whole cluster.
        nodes: partition and memory in MB of its nodes, a kind of nodes a line, separated by ``|``.
    """
    of_all = _memory(_after(r"^MaxMemPerNode\s*= *", settings))
    largest: dict[str, float] = {}
    for line in nodes.splitlines():
        name, _, size = line.strip().partition("|")
        largest[name] = max(largest.get(name, 0.0), _memory(size.rstrip("+")))
    return {
        name: Limits(
            minutes=_minutes(_after(r"\bMaxTime=", line)),
            memory_mb=min(
                _memory(_after(r"\bMaxMemPerNode=", line)), of_all, largest.get(name, math.inf)
            ),
            is_default=_after(r"\bDefault=", line) == "YES",
        )
        for line in partitions.splitlines()
        if (name := _after(r"^PartitionName=", line))
    }


def _after(pattern: str, text: str) -> str:
    found = re.search(pattern + r"(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _memory(text: str) -> float:
    return float(text) if text.isdigit() and int(text) else math.inf


def _minutes(text: str) -> float:
    """Return the minutes of a time as SLURM writes it: days-hours:minutes:seconds."""
    if not text or text in _UNLIMITED:
        return math.inf
    days, dash, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
    elif len(parts) < 3:
        hours, minutes, seconds = 0.0, parts[0], (parts[1] if len(parts) > 1 else 0.0)
    else:
        hours, minutes, seconds = parts
    return 1440 * float(days or 0) + 60 * hours + minutes + seconds / 60


def limits_of(names: str, partitions: Mapping[str, Limits]) -> list[Limits]:
    """Return the limits of the partitions that a job may run in.

    Args:
        names: their names, separated by commas; empty for the cluster's default.
        partitions: all partitions; empty if they are not known.

    Raises:
        MarginCacheError: there is no such partition.
    """
    if not names:
        return [limits for limits in partitions.values() if limits.is_default]
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if partitions and name not in partitions:
            raise MarginCacheError(
                f"slurm_partition: this cluster has no partition {name}; it has "
                f"{', '.join(sorted(partitions))}"
            )
    return [partitions[name] for name in wanted if partitions]


def most_of(names: str, partitions: Mapping[str, Limits]) -> Limits:
    """Return the most memory and time that any of some partitions gives; no limit if not known.

    Args:
        names: their names, separated by commas; empty for the cluster's default.
        partitions: all partitions; empty if they are not known.
    """
    try:
        limits = limits_of(names, partitions)
    except MarginCacheError:
        limits = []
    return Limits(
        max((each.minutes for each in limits), default=math.inf),
        max((each.memory_mb for each in limits), default=math.inf),
    )


def check_request(
    rule: str, memory_mb: float, minutes: float, names: str, partitions: Mapping[str, Limits]
) -> None:
    """Check that a job can run in one of its partitions.

    Args:
        rule: name of its rule.
        memory_mb: memory that it asks for.
        minutes: time that it asks for.
        names: names of its partitions, separated by commas; empty for the cluster's default.
        partitions: all partitions; empty if they are not known.

    Raises:
        MarginCacheError: it would wait in the queue for ever, or there is no such partition.
    """
    limits = limits_of(names, partitions)
    if not limits or any(each.allow(memory_mb, minutes) for each in limits):
        return
    most = most_of(names, partitions)
    parts, ways = [], []
    if memory_mb > most.memory_mb:
        parts.append(f"{memory_mb:.0f} MB of memory, of which it gives {most.memory_mb:.0f}")
        ways.append(f"{rule}:mem_mb={most.memory_mb:.0f}")
    if minutes > most.minutes:
        parts.append(f"{minutes:.0f} minutes, of which it gives {most.minutes:.0f}")
        ways.append(f"{rule}:runtime={math.floor(most.minutes)}")
    if not parts:
        parts.append(f"{memory_mb:.0f} MB and {minutes:.0f} minutes, which no one of them gives")
    others = [name for name, each in partitions.items() if each.allow(memory_mb, minutes)]
    where = f" ({', '.join(others)} would take it)" if others else ""
    name = names or "the default partition"
    less = f", or, if that is enough, give --set-resources {' '.join(ways)}" if ways else ""
    raise MarginCacheError(
        f"slurm_partition: {name} takes no job of {rule}, which asks for "
        f"{' and for '.join(parts)}; choose another partition{where}{less}"
    )
