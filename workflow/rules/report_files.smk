# What the reports of margins are made from, and which of them a run draws.
from margin_cache.report.state import check_apart, check_place, is_current
from margin_cache.margin.model import save_margin


def margin_of_report(wildcards):
    """Return the directory of the plan of the margin that a report is about, and the margin."""
    return next(
        (plan_dir, margin)
        for plan_dir, margin in MARGINS.items()
        if str(margin.files.report_dir) == wildcards.report_dir
    )


def reported(wildcards):
    """Return the files that a report is made from, as far as Snakemake has to know of them.

    Of one that is there, those that Snakemake remembers, or it would say that they have changed.
    """
    plan_dir, margin = margin_of_report(wildcards)
    audits = [str(margin.files.audit_file)] if margin.files.audit_file.exists() else []
    page, done = margin.files.report_page, margin.done_file
    is_from_done = has_jobs(plan_dir) and (not shows_done_jobs() or was_made_from(page, done))
    return [job_inputs.target(margin, is_from_done), *audits]


def reports():
    """Return what this run is done with, one file a margin, or what Snakemake's own report shows.

    A page that is current stays out of the DAG, in which another set of input files, as after the
    margin was made, would have it drawn again.
    """
    if shows_done_jobs():
        return targets() + reports_shown()
    try:
        check_apart(MARGINS.values())
        for margin in MARGINS.values():
            check_place(margin)
    except MarginCacheError as error:
        end_in_one_line(error)
    begin_run()
    files = []
    for plan_dir, margin in MARGINS.items():
        if plan_dir not in pending_margins() and is_current(margin) and not draws_again():
            files.append(str(margin.files.report_state))
            continue
        if workflow.is_main_process and not workflow.dryrun:
            save_margin(margin)
        # The margin too, or Snakemake would be content with a page that is there already.
        files += [job_inputs.target(margin, has_jobs(plan_dir)), str(margin.files.report_page)]
    return files


def draws_again():
    """Tell whether all reports are drawn again, as with --forcerun draw_report."""
    settings = workflow.dag_settings if workflow.is_main_process else None
    return any(str(name).endswith("draw_report") for name in getattr(settings, "forcerun", ()))


def reports_shown():
    """Return the pages that there are, if Snakemake only says what there is."""
    pages = [margin.files.report_page for margin in MARGINS.values()]
    return [str(page) for page in pages if shows_done_jobs() and page.exists()]


def reports_drawn():
    """Return a line for each report that this run has drawn."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    return [f"report: {job.output[0]}" for job in jobs if job.rule.name.endswith("draw_report")]
