# What audits are asked to check, and how they are cut into jobs.

from margin_cache.audit.place import check_is_local, check_place as check_place_of_audit
from margin_cache.audit.request import (
    AuditRequest,
    catalogs_state,
    cut_sky,
    request_id,
    save_request,
)
from margin_cache.planning.coverage import describe_job
from margin_cache.planning.jobs import audit_jobs
from margin_cache.planning.resources import Request, audit_pixels_request, audit_request
from margin_cache.progress.work import Amount, MarginWork, Stage, StageWork, audit_amounts
from margin_cache.margin.model import save_margin
from margin_cache.storage.sizes import size_text


@cache
def audits():
    """Return what the audits of this run check, by the directories of their intermediate files."""
    found = {}
    for margin in MARGINS.values():
        settings, parameters = margin.settings, margin.plan.parameters
        keys = ("input_catalog_path", "audit_catalog_path", "output_path")
        check_is_local({key: getattr(settings, key) for key in keys})
        audited = Path(settings.audit_catalog_path or margin.files.output_dir)
        if not audited.is_dir():
            hint = "make it first, or " if not settings.audit_catalog_path else ""
            raise MarginCacheError(
                f"audit_catalog_path: {audited} is no directory; {hint}name the margin to be checked"
            )
        name = audited.resolve().name
        request = AuditRequest(
            primary=parameters.catalog.path,
            margin=str(audited),
            output_dir=str(paths.audit_dir(Path(settings.output_path), name)),
            threshold=settings.audit_threshold or None,
            cell_order=None if settings.fine_filtering else parameters.margin_order,
            fraction=settings.audit_fraction,
            seed=settings.audit_seed,
            state=catalogs_state(parameters.catalog.path, str(audited)),
            pieces=cut_sky(*audit_jobs(margin.plan, settings.audit_fraction)),
        )
        places = [other.output_dir for other, _ in found.values()]
        if request.output_dir in places:
            raise MarginCacheError(
                f"output_path: two audits would be written into {request.output_dir}; give each "
                "its own"
            )
        place = paths.audit_dir(margin.files.intermediate_dir.parent, name)
        found[str(place / request_id(request))] = request, margin
    return found


def begin_audit(directory, request, margin):
    """Say what an audit looks at, and write what its jobs need, if this process runs jobs."""
    if not workflow.is_main_process or workflow.execution_settings is None:
        return
    check_place_of_audit(Path(request.output_dir))
    sizes = margin.plan.partitions.sizes
    sample = "" if request.fraction >= 1 else f", a sample of {request.fraction:g} of the pixels"
    print(
        f"auditing {request.margin} against {request.primary}: {len(sizes)} partitions of "
        f"{size_text(int(sizes.sum()))} in {len(request.pieces)} jobs{sample}",
        file=sys.stderr,
        flush=True,
    )
    if not workflow.dryrun:
        save_request(request, paths.audit_request(directory))
        save_margin(margin)


def audit_pieces():
    """Return the files in which the jobs of all audits say what they have found."""
    try:
        for directory, (request, margin) in audits().items():
            begin_audit(directory, request, margin)
    except (MarginCacheError, OSError) as error:
        end_in_one_line(error)
    return [
        paths.AUDIT_PIECE.format(audit_dir=directory, job=piece.name)
        for directory, (request, _) in audits().items()
        for piece in request.pieces
    ]


def for_audit_pixels(wildcards, input):
    """Return what a job of an audit asks for; in the job itself, which has got it, anything."""
    if not workflow.is_main_process:
        return Request(1, 1, 1)
    request, margin = audits()[wildcards.audit_dir]
    plan_dir = str(margin.files.plan_dir)
    return audit_pixels_request(margin.plan, row_group_of(plan_dir), len(request.pieces))


def for_audit(wildcards, input):
    """Return what the job asks for that puts together what was found."""
    return audit_request(sum(Path(file).stat().st_size for file in input))


def audits_done():
    """Return a line for each audit that this run has made."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    logs = [Path(job.log[0]) for job in jobs if job.rule.name.endswith("audit")]
    lines = [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.startswith("audit: ")]


def audit_works(jobs):
    """Return what is counted of audits, and of each of their jobs that are to be done.

    Takes the directory of the audit, and the number in it, of each of these jobs.
    """
    works, amounts = {}, {}
    for directory, (request, margin) in audits().items():
        parts = audit_amounts(margin, request.fraction)
        pending = [number for place, number in jobs.values() if place == directory]
        done = [part for number, part in enumerate(parts) if number not in pending]
        work = StageWork(sum(parts, Amount()), sum(done, Amount()))
        works[directory] = MarginWork(
            Path(request.output_dir).name, work.total.count, {Stage.AUDITING: work}
        )
        amounts |= {
            job: ((directory, Stage.AUDITING), parts[number])
            for job, (place, number) in jobs.items()
            if place == directory
        }
    return works, amounts
