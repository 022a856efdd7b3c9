# What relies on Snakemake's insides where jobs fail, wait for ever or are stopped, above all on a
# SLURM cluster: log records, the scheduler, the executor and signals. Tried with the version that
# handlers.smk names.
import logging
import math
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from itertools import chain, repeat

from margin_cache.cluster.failures import is_final, never, refusal
from margin_cache.cluster.limits import ask_slurm, check_request, most_of
from margin_cache.cluster.queue import cancel, cancel_run, hopeless_jobs
from margin_cache.errors import MarginCacheError
from margin_cache.notification.messages import stopped
from margin_cache.process import one_line
from margin_cache.margin.paths import is_of_this_run
from snakemake.logging import logger
from snakemake.resources import Resource
from snakemake_interface_logger_plugins.common import LogEvent

LOOKS = chain((5, 10, 20), repeat(60))  # seconds before each look at the queue
STOPPED_BY = []


class JobErrors(logging.Filter):
    """Keeps what the log says of failed jobs, and lets none be tried again in vain.

    Nothing else has the log of a job on a cluster and what the executor says about its failure.
    A filter is asked before anything is printed: refusals by SLURM are alike, and one is enough.
    """

    def __init__(self):
        super().__init__()
        self.by_job = {}
        self.hopeless = {}  # why SLURM does not start jobs, by its ids of them
        self.refusals = set()
        self.has_come_back = False

    def filter(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and workflow.dryrun:
            check_requests()  # all jobs are known by now, and no handler is called
        if event == LogEvent.JOB_FINISHED:
            self.has_come_back = True
        if event != LogEvent.JOB_ERROR:
            return not record.getMessage().startswith("Exception in run_job")  # said again below
        self.by_job[record.jobid] = record
        message = record.rule_msg or ""
        logs = filter(is_of_this_run, record.log)
        if self.why_hopeless(record) or is_final(message, logs, self.has_come_back):
            stop_attempts(record.jobid)
        words = record.rule_name, refusal(message)
        is_repeated = words in self.refusals
        if words[1]:
            self.refusals.add(words)
        return not is_repeated

    def why_hopeless(self, record):
        """Return why SLURM would not have started a job, or None if it has."""
        return self.hopeless.get((getattr(record, "aux", None) or {}).get("external_jobid"))


def stop_attempts(number):
    """Have Snakemake count a job's attempt as its last; it does so after the log record."""
    for job in list(workflow.scheduler.running):
        if number in [each.jobid for each in (job.jobs if job.is_group() else [job])]:
            # Not by the property, which would have its resources computed for that attempt.
            job._attempt = job.restart_times + 1


def is_on_slurm():
    """Tell whether this process hands jobs to SLURM."""
    plugin = workflow.executor_plugin if workflow.is_main_process else None
    return getattr(plugin, "name", "") == "slurm"


def would_be_on_slurm():
    """Tell whether this process is a dry run of one that hands jobs to SLURM.

    Snakemake has forgotten by then which executor was asked for.
    """
    settings = workflow.resource_settings
    is_for_cluster = workflow.is_main_process and workflow.dryrun and settings.nodes
    return bool(is_for_cluster) and "slurm_partition" in settings._parsed_default_resources


@cache
def partitions():
    """Return the limits of the cluster's partitions; none if jobs do not run there."""
    return ask_slurm() if is_on_slurm() or would_be_on_slurm() else {}


def most_for(rule, name):
    """Return the most of a resource that a job of a rule gets in its partition."""
    settings = workflow.resource_settings
    given = [settings._parsed_overwrite_resources.get(rule, {}), settings._parsed_default_resources]
    names = [str(each["slurm_partition"].raw) for each in given if "slurm_partition" in each]
    most = most_of(names[0].strip("'\"") if names else "", partitions())
    return {"mem_mb": most.memory_mb, "runtime": most.minutes}.get(name, math.inf)


def limited(rule, name, first, wanted):
    """Return what a later attempt asks for, which grows no further than its partition allows."""
    most = most_for(rule, name) if wanted > first else math.inf
    return max(first, wanted if wanted <= most else math.floor(most))


def asked(rule, name, request):
    """Return a function for `resources` that gives one of those that a job asks for."""

    def ask(wildcards, input, attempt):
        wanted = request(wildcards, input)
        return limited(rule, name, getattr(wanted.at(1), name), getattr(wanted.at(attempt), name))

    return ask


def growing(rule, name, number):
    """Return a resource that grows with the attempts, as those of the rules do."""
    return Resource(
        name,
        lambda wildcards, attempt: limited(rule, name, number, number * attempt),
        raw=f"{number}*attempt",
    )


def let_constants_grow():
    """Let memory and time given by --set-resources as numbers grow with the attempts."""
    if not workflow.is_main_process:
        return  # a job is given what the main process has made of them
    for rule, resources in workflow.resource_settings._parsed_overwrite_resources.items():
        for name in {"mem_mb", "runtime"} & set(resources):
            if isinstance(resources[name].raw, int):
                resources._data[name] = growing(rule, name, resources[name].raw)


def check_requests():
    """End the run with a line if a job asks for more than its partition ever gives."""
    for job in workflow.dag.needrun_jobs() if partitions() else []:
        asks = job.resources
        names = [asks.get("mem_mb"), asks.get("runtime")]
        # Not by the job, to which in a dry run all are local.
        is_local = job.rule.norun or job.rule.name in workflow._localrules
        if is_local or not all(isinstance(number, int) for number in names):
            continue  # what a reduce job asks for is known only when its shards are there
        try:
            check_request(job.rule.name, *names, str(asks.get("slurm_partition", "")), partitions())
        except MarginCacheError as error:
            sys.exit(one_line(error))


def watch_queue():
    """Cancel jobs that would wait in SLURM's queue for ever, until this process ends."""
    for seconds in LOOKS:
        time.sleep(seconds)
        for job, reason in hopeless_jobs(slurm_run()).items():
            if job not in ERRORS.hopeless:
                ERRORS.hopeless[job] = never(reason)
                logger.error(f"{never(reason)}: {job}, which is cancelled")
                cancel(job)


def slurm_run():
    """Return the name that SLURM has for all jobs of this run."""
    return workflow.scheduler._executor.run_uuid


def stop(number, frame):
    """Let a signal end the run as Ctrl-C does: jobs are cancelled, and the lock is released."""
    if STOPPED_BY:
        print("the run is being stopped; jobs are still ending", file=sys.stderr, flush=True)
        return
    STOPPED_BY.append(signal.Signals(number).name)
    raise KeyboardInterrupt


def end_before_jobs(number, frame):
    """End the process on a signal that comes before its first job."""
    sys.exit(stopped(signal.Signals(number).name))


def heed_signals(handler):
    """Let signals stop the run; those that are ignored, as by nohup, stay so."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Snakemake itself is in a thread where there is a graphical interface.
        with suppress(ValueError):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)


def watch_over_jobs():
    """Watch over the jobs that are about to start."""
    heed_signals(stop)
    if is_on_slurm():
        threading.Thread(target=watch_queue, name="queue", daemon=True).start()


def cancel_jobs():
    """Cancel what is left on the cluster: jobs that were handed in while the run was stopped."""
    if is_on_slurm():
        cancel_run(slurm_run())


ERRORS = JobErrors()
if workflow.is_main_process:
    heed_signals(end_before_jobs)
    logger.addFilter(ERRORS)
let_constants_grow()
