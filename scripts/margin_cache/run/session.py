"""What a run makes: its margins, the files that its rules ask for, and what their jobs request."""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margin_cache import notification
from margin_cache.config import validation
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.existing import (
    check_output,
    has_leftovers,
    is_complete,
    missing_receipts,
    provenance_file,
)
from margin_cache.margin.forecast import check_disk_space, disk_space, forecast_margin
from margin_cache.margin.model import Margin, load_margins, without_audit
from margin_cache.margin.prepare import (
    check_directories,
    finish_by_reducing,
    prepare_margins,
    share_map_jobs,
    start_margin,
)
from margin_cache.planning.jobs import (
    Request,
    RowGroupSize,
    finish_request,
    largest_row_group,
    map_request,
    reduce_request,
)
from margin_cache.planning.model import describe_job
from margin_cache.process import FAILURE_MARK, one_line
from margin_cache.run import compat
from margin_cache.run.events import RunningJobs

if TYPE_CHECKING:
    from margin_cache.run.audits import Audits

ResourceFunction = Callable[[Any, Any, int], int]
"""Takes wildcards, input and attempt."""

sessions: list["Session"] = []
"""The sessions of this process: one, or one for each module that another workflow uses."""


class Session:
    """The margins of a run, by the directories of their plans, and what Snakemake asks about them.

    The main process plans them; a process that runs one job loads what the main process has saved.
    """

    def __init__(
        self, workflow: Any, config: Mapping[str, Any], base: Path, is_module: bool
    ) -> None:
        """Read the configuration and plan the margins; nothing is written.

        ``base`` is the directory of the checkout that this Snakefile is part of.
        """
        self._workflow = workflow
        self._base = base
        self.started_at = time.monotonic()
        self.is_main = compat.is_main_process(workflow)
        self.is_module = is_module
        self.config_files = compat.config_files(workflow)
        self.settings = validation.run_settings(config)
        self.mail = validation.mail_settings(config)
        self.login: notification.Login | None = None
        if self.is_main and not is_module:
            if sys.argv[1:] and Path(sys.argv[0]).name in ("snakemake", "__main__.py"):
                validation.check_command(sys.argv[1:], Path(os.environ.get("PWD", ".")), base)
                validation.check_working_directory(sys.argv[1:], Path.cwd())
            validation.check_catalog_given(config, Path.cwd(), base)
            self.login = notification.take_login(os.environ)
            compat.skip_garbage()
        self.audited: list[tuple[MarginSettings, Margin]] = []
        self.margins = self._find_margins(validation.settings_of_margins(config))
        self._incomplete = [
            plan_dir
            for plan_dir, margin in self.margins.items()
            if not self.is_main or not is_complete(margin) or has_leftovers(margin)
        ]
        self.audits: Audits  # set by itself
        self.jobs = RunningJobs(handles_signals=not is_module)
        self.before_jobs: list[Callable[[], object]] = []
        self.started: set[str] = set()
        self._in_dag: set[str] = set()
        self._has_warned = False

    def _find_margins(self, all_settings: list[MarginSettings]) -> dict[str, Margin]:
        # Audits of several margins of one catalog would all make the same margin.
        alike = list(map(without_audit, all_settings))
        first = list(map(alike.index, alike))
        numbers = [
            number
            for number, settings in enumerate(all_settings)
            if not settings.audit_catalog_path or first[number] == number
        ]
        different = [all_settings[number] for number in numbers]
        if self.is_main:
            margins = prepare_margins(different, self.config_files, numbers)
            made = dict(zip(numbers, margins, strict=True))
            self.audited = [
                (settings, made.get(number) or made[first[number]])
                for number, settings in enumerate(all_settings)
            ]
        else:
            margins = load_margins(different)
        return {str(margin.files.plan_dir): margin for margin in margins}

    # What the rules ask for. Snakemake calls these with the wildcards of a job.

    def targets(self, wildcards: Any) -> list[str]:
        """Return the files that a run is done with, one a margin."""
        self.announce()
        return [self.target(plan_dir) for plan_dir in self.margins]

    def target(self, plan_dir: str) -> str:
        """Return the file that a margin is done with: that of its last job, or the margin's own."""
        if self.is_main:
            self._share_map_jobs()
        margin = self.margins[plan_dir]
        if not self.has_jobs(plan_dir):
            return str(provenance_file(margin))
        if margin.is_finished_by_reducing:
            return str(margin.files.receipt(margin.plan.reduce_names[0]))
        return str(margin.done_file)

    def margin_of(self, wildcards: Any) -> Margin:
        """Return the margin of a job, which therefore belongs to this run.

        In a module, or with --no-hooks, this is the last moment to lock it and save its plan.
        """
        if self.is_main:
            self._share_map_jobs()
            self._in_dag.add(wildcards.plan_dir)
            self._start_without_handlers()
        return self.margins[wildcards.plan_dir]

    def shards_of_job(self, wildcards: Any) -> list[str]:
        margin = self.margin_of(wildcards)
        needs = margin.plan.needs_of(margin.plan.reduce_job_of(wildcards.job))
        return [str(margin.shard_files.shard(margin.plan.map_names[need])) for need in needs]

    def receipts(self, wildcards: Any) -> list[str]:
        """Return the receipts that the last job of a margin waits for.

        Reduce jobs that have their receipts stay out of the DAG. In it, Snakemake would run them
        again as soon as a neighbour that has changed needs one of their shards, and so on around
        the sky. Other margins that are made from this one's shards come first, because the last job
        deletes these.
        """
        margins = self.margin_of(wildcards), *self.made_with(wildcards.plan_dir)
        if not self.is_main:
            return []
        receipts: list[Path] = []
        for margin in margins:
            if self.makes_all or self.only_describes:
                receipts += map(margin.files.receipt, margin.plan.reduce_names)
            else:
                receipts += self._missing_receipts(str(margin.files.plan_dir))
        return list(map(str, receipts))

    def made_with(self, plan_dir: str) -> list[Margin]:
        """Return the margins that are made with the shards of another one."""
        return [
            margin
            for other, margin in self.margins.items()
            if str(margin.shards_of) == plan_dir and self.has_jobs(other)
        ]

    @cache  # noqa: B019
    def _share_map_jobs(self) -> None:
        pending = [] if self.only_describes else filter(self.is_pending, self.margins)
        incomplete = [
            plan_dir for plan_dir in pending if self.makes_all or self._missing_receipts(plan_dir)
        ]
        self.margins = share_map_jobs(self.margins, incomplete, self.makes_all)
        to_reduce = self.margins if self.only_describes else incomplete
        self.margins = finish_by_reducing(self.margins, to_reduce)

    def margin_name(self, wildcards: Any) -> str:
        return self.margin_of(wildcards).name

    def pixels_covered(self, wildcards: Any) -> str:
        return describe_job(wildcards.job)

    def script(self, name: str) -> Callable[[Any, Any], str]:
        """Return a function for a parameter: the command that runs a script.

        A change of it does not rerun a job, since the function takes the output.
        """
        python = "python" if compat.uses_conda(self._workflow) else shlex.quote(sys.executable)
        command = f"{python} {shlex.quote(str(self._base / 'scripts' / name))}"
        return lambda wildcards, output: command

    def resources(self, rule: str) -> dict[str, ResourceFunction]:
        return resource_functions(partial(self._request, rule))

    def _request(self, rule: str, wildcards: Any, input: Any) -> Request:
        if not self.is_main:
            return Request(1, 1, 1)  # the job has been given its resources already
        margin = self.margin_of(wildcards)
        plan = margin.plan
        if rule == "reduce_margins":
            size = sum(Path(shard).stat().st_size for shard in input)
            request = reduce_request(plan, plan.reduce_job_of(wildcards.job), size)
            if not margin.is_finished_by_reducing:
                return request
            finishing = finish_request(plan, self.largest_row_group(wildcards.plan_dir))
            return request.then(finishing)
        row_group = self.largest_row_group(wildcards.plan_dir)
        if rule == "map_partitions":
            return map_request(plan, plan.map_job_of(wildcards.job), row_group)
        return finish_request(plan, row_group, bool(margin.files.url))

    @cache  # noqa: B019  # sessions last as long as the process
    def largest_row_group(self, plan_dir: str) -> RowGroupSize:
        return largest_row_group(self.margins[plan_dir].plan)

    @cache  # noqa: B019
    def _missing_receipts(self, plan_dir: str) -> list[Path]:
        return missing_receipts(self.margins[plan_dir])

    @property
    def finishes_locally(self) -> bool:
        """Whether the last jobs run where Snakemake runs, since they take seconds."""
        return all(len(m.plan.destination_orders) <= 5000 for m in self.margins.values())

    @property
    def constraints(self) -> dict[str, str]:
        """Patterns of the wildcards in the paths of intermediate files."""
        return {
            "plan_dir": "|".join(map(re.escape, self.margins)),
            "job": r"\d{5}(?:-o\d+p\d+)+-[0-9a-f]+",
            "fingerprint": r"[0-9a-f]+",
            "audit_dir": r".*_audit/[0-9a-f]{16}",
            "report_dir": r".*_report",
        }

    # What is done, and when.

    @property
    def only_describes(self) -> bool:
        """Whether Snakemake only tells what there is; known once the rules ask for files."""
        return self.is_main and compat.only_describes(self._workflow)

    @property
    def makes_all(self) -> bool:
        """Whether finished margins are made again; known once the rules ask for files."""
        return self.is_main and compat.forces_all(self._workflow)

    def is_pending(self, plan_dir: str) -> bool:
        return plan_dir in self._incomplete or self.makes_all

    def has_jobs(self, plan_dir: str) -> bool:
        """Return whether jobs of a margin belong into the DAG: to be run, or to be described."""
        is_described = self.only_describes and self.margins[plan_dir].done_file.exists()
        return self.is_pending(plan_dir) or is_described

    @cache  # noqa: B019
    def announce(self) -> None:
        """Print once which margins are made and what that takes, and which are complete.

        Ends the process with one line if an output directory is unfit, or a disk too small.
        """
        if not self.is_main or self.only_describes:
            return
        with errors_in_one_line():
            if any(settings.audit_catalog_path for settings, _ in self.audited):
                margins = self.margins.values()
                check_directories(
                    [replace(margin, settings=without_audit(margin.settings)) for margin in margins]
                )
            for plan_dir in self._incomplete:
                check_output(self.margins[plan_dir])
        self._share_map_jobs()
        say = partial(print, file=sys.stderr)
        pending = []
        for plan_dir, margin in self.margins.items():
            if not self.is_pending(plan_dir):
                say(notification.nothing_to_do(margin))
                continue
            self._missing_receipts(plan_dir)  # deletes what is damaged, which is made again
            pending.append((margin, forecast_margin(margin, self.made_with(plan_dir))))
        for margin, expected in pending:
            say(notification.making(margin, expected))
        if pending:
            places = disk_space(pending)
            say(notification.disk_space_lines(places))
            with errors_in_one_line():
                check_disk_space(places)

    def start_margins(self) -> None:
        """Lock the margins that this run makes, and save what their jobs read, once each."""
        for plan_dir, margin in self.margins_in_dag().items():
            if plan_dir in self.started:
                continue
            self.started.add(plan_dir)
            start_margin(margin)
            for mark in margin.files.plan_dir.glob(f"logs/*/*{FAILURE_MARK}"):
                mark.unlink(missing_ok=True)  # of a job that has failed for good in an earlier run
        while self.before_jobs:
            self.before_jobs.pop(0)()

    def _start_without_handlers(self) -> None:
        """Save what jobs read while the DAG is built, if Snakemake will not call `onstart`."""
        if not self.lacks_handlers or not self.runs_jobs:
            return
        if self.mail is not None and not self._has_warned:
            self._has_warned = True
            print(
                "completion_email_address: Snakemake calls no handlers of a module, or with "
                "--no-hooks. No mail is sent unless another Snakefile calls them (docs/module.md)",
                file=sys.stderr,
            )
        with errors_in_one_line():
            self.start_margins()

    def margins_in_dag(self) -> dict[str, Margin]:
        """Return the margins that jobs of this run make, by the directories of their plans."""
        return {key: margin for key, margin in self.margins.items() if key in self._in_dag}

    def do_before_jobs(self, action: Callable[[], object]) -> None:
        """Register an action before the first job; at once where Snakemake calls no `onstart`."""
        self.before_jobs.append(action)
        self._start_without_handlers()

    @property
    def lacks_handlers(self) -> bool:
        """Whether Snakemake does not call the handlers; known once the rules ask for files."""
        return self.is_module or compat.skips_handlers(self._workflow)

    @property
    def runs_jobs(self) -> bool:
        """Whether Snakemake is going to run jobs; known once the rules ask for files."""
        return self.is_main and not (compat.is_dry_run(self._workflow) or self.only_describes)


def resource_functions(request: Callable[[Any, Any], Request]) -> dict[str, ResourceFunction]:
    """Return functions for Snakemake's `resources`, which grow with the attempts."""

    def function(name: str) -> ResourceFunction:
        return lambda wildcards, input, attempt: getattr(
            request(wildcards, input).at(attempt), name
        )

    return {name: function(name) for name in ("mem_mb", "disk_mb", "runtime")}


def open_session(workflow: Any, config: Mapping[str, Any], base: Path, is_module: bool) -> Session:
    """Return the session of a Snakefile that is being parsed, or end the run with one line.

    With the target `help`, the run ends with the keys of the configuration.
    """
    if "help" in sys.argv[1:] and not is_module:
        print((base / "config/config.yaml").read_text(encoding="utf-8"))
        sys.exit()
    with errors_in_one_line():
        session = Session(workflow, config, base, is_module)
    sessions.append(session)
    return session


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the run with one line, where Snakemake would print a traceback."""
    try:
        yield
    except (MarginCacheError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(notification.stopped("SIGINT"))
